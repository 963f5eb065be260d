package clienttest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lab.Wrap(m)) }
