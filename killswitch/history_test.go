package killswitch_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// A history is read by people, by programs and by spreadsheets.
func TestRenderHistory(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	steps := []killswitch.StepDone{{Name: "close Redis, shadow", TookMillis: 0.5}, {Name: "drain outbox of Redis", TookMillis: 2000, Note: "too long"}}
	l := killswitch.HistoryList{Next: 1, Changes: []killswitch.HistoryLine{
		{Pod: "pod-1", Change: killswitch.Change{
			Seq: 3, At: at, Kind: killswitch.KindMove, Outcome: killswitch.Undone, From: backends.Shadow, To: backends.Live, FromEpoch: 2, Epoch: 4, Who: "ann", Why: "=1+1",
			Cause: "12 entries are still in the outbox of redis", Steps: steps,
			Gates: []killswitch.GateResult{{Name: "setup", Pass: true, Figure: "both fit", Bound: "fit"}, {Name: "debt", Figure: "3", Bound: "none", Forced: true}, {Name: "readiness", Figure: "short", Bound: "enough", Off: true}},
		}},
		{Pod: "pod-1", Change: killswitch.Change{Seq: 1, At: at, Kind: killswitch.KindInit, Outcome: killswitch.Done, To: backends.RedisOnly, Epoch: 1, Who: "proxy-1", Why: "first\nstart"}},
	}}
	var b bytes.Buffer
	if err := l.Write(&b, killswitch.HistoryTable); err != nil {
		t.Fatal(err)
	}
	golden(t, "history.txt", b.Bytes())

	b.Reset()
	if err := l.Write(&b, killswitch.HistoryCSV); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][10] != "'=1+1" || rows[1][12] != "pass setup: both fit (asked for: fit); FORCED debt: 3 (asked for: none); off readiness: short (asked for: enough)" || rows[1][14] != "2000.500" {
		t.Errorf("%q, %v", rows, err)
	}
	b.Reset()
	if err := l.Write(&b, killswitch.HistoryJSONL); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	var one killswitch.HistoryLine
	if err := json.Unmarshal([]byte(lines[0]), &one); err != nil || len(lines) != 2 || !cmp.Equal(one, l.Changes[0]) {
		t.Errorf("%q, %v", lines, err)
	}
	b.Reset()
	var back killswitch.HistoryList
	if err := l.Write(&b, killswitch.HistoryJSON); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || !cmp.Equal(back, l) {
		t.Errorf("%v: %s", err, b.String())
	}
	if _, err := killswitch.ParseHistoryFormat("xml"); !backends.IsRejection(err) {
		t.Errorf("%v", err)
	}
}
