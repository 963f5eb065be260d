package demo

import (
	"os"
	"testing"
)

func TestShort(t *testing.T) {
	sum, err := Run(t.Context(), Options{Short: true, Progress: os.Stderr})
	sum.WriteText(os.Stderr)
	if err != nil {
		t.Error(err)
	}
}
