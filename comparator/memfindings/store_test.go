package memfindings_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/comparator/findingstest"
	"github.com/crossfade-proxy/crossfade/comparator/memfindings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	findingstest.Exercise(t, func(testing.TB) comparator.Store { return memfindings.New() })
	findingstest.ExerciseSheets(t, func(testing.TB) comparator.Sheets { return memfindings.New() })
	findingstest.ExerciseAudits(t, func(testing.TB) comparator.AuditBook { return memfindings.New() })
}

func TestBook(t *testing.T) {
	findingstest.ExerciseBook(t, func(testing.TB) comparator.ApologyBook { return memfindings.New() })
}
