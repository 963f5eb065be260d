package lab

import (
	"errors"
	"os"
	"testing"
)

func TestStartTime(t *testing.T) {
	fields := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"
	if got, err := startTime([]byte("77 (ld-linux) (x) 86" + ")" + fields)); got != 4242 || err != nil {
		t.Errorf("a name with parentheses: %d, %v", got, err)
	}
	if _, err := startTime([]byte("77 (a) Z" + fields[2:])); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a zombie: %v", err)
	}
	if _, err := startTime([]byte("77 (a) S")); err == nil {
		t.Error("too short")
	}
}
