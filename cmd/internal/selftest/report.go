package selftest

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Figure is what an injection leads to.
type Figure struct {
	// Class of the findings; where there are none, what stands for them: "none", "undetermined" and "pending" (columns of the
	// account), or "refused".
	Class string `json:"class"`
	// Count is how many findings, or decisions in the column.
	Count int64 `json:"count"`
	Units int64 `json:"units"`
	// Sights is how often the findings were seen, together.
	Sights int64 `json:"sights"`
	// Found names what found it: "decision", "audit", "conservation", "start-up check", "stats".
	Found string `json:"found"`
}

func (f Figure) String() string {
	switch {
	case f == (Figure{}):
		return "—"
	case f.Count == 0 && f.Units == 0:
		return f.Class
	}
	s := fmt.Sprintf("%s %d, %s", f.Class, f.Count, plural(f.Units, "unit"))
	if f.Sights > 0 {
		s += ", " + plural(f.Sights, "sight")
	}
	return s
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Row is one injection in one stage.
type Row struct {
	Injection string `json:"injection"`
	What      string `json:"what"`
	Stage     string `json:"stage"`
	Servers   string `json:"servers"`
	Expected  Figure `json:"expected"`
	Seen      Figure `json:"seen"`
	// Repaired says how the pod came to be whole again, and is empty where it did not.
	Repaired string `json:"repaired"`
	Passed   bool   `json:"passed"`
	// Problems say what was not as it should be.
	Problems []string `json:"problems"`
	// Of the account of the pod, honest buyers included.
	Decisions    int64 `json:"decisions"`
	Explained    int64 `json:"explained"`
	Undetermined int64 `json:"undetermined"`
	TookMS       int64 `json:"took_ms"`
}

// Report is what a self-test has shown.
type Report struct {
	Servers []Server `json:"servers"`
	Seed    uint64   `json:"seed"`
	Rows    []Row    `json:"rows"`
	Failed  int      `json:"failed"`
	TookMS  int64    `json:"took_ms"`
}

// Server is one that was played on.
type Server struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

// Passed tells whether every row was played and has passed.
func (r *Report) Passed() bool { return len(r.Rows) > 0 && r.Failed == 0 }

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	names := make([]string, len(r.Servers))
	for i, s := range r.Servers {
		names[i] = s.Kind + " " + s.Version
	}
	fmt.Fprintf(w, "Self-test on %s: %d rows, seed %d, %s\n\n", strings.Join(names, ", "), len(r.Rows), r.Seed, (time.Duration(r.TookMS) * time.Millisecond).Round(100*time.Millisecond))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tINJECTION\tSTAGE\tEXPECTED\tSEEN\tFOUND BY\tREPAIRED\tDECISIONS")
	servers := ""
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Servers != servers && len(r.Servers) > 2 {
			servers = row.Servers
			fmt.Fprintf(t, "\t%s:\t\t\t\t\t\t\n", servers)
		}
		mark := "ok"
		if !row.Passed {
			mark = "FAILED"
		}
		repaired := row.Repaired
		if repaired == "" {
			repaired = "no"
		}
		found := row.Seen.Found
		if found == "" {
			found = "—"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", mark, row.Injection, row.Stage, row.Expected, row.Seen, found, repaired, row.Decisions)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range r.Rows {
		for _, p := range r.Rows[i].Problems {
			fmt.Fprintf(w, "FAILED: %s, %s, %s: %s\n", r.Rows[i].Injection, r.Rows[i].Stage, r.Rows[i].Servers, p)
		}
	}
	verdict := "Every injection was found, in its class, with its units, and repaired; without one nothing was found."
	if !r.Passed() {
		verdict = fmt.Sprintf("%d of %d rows failed.", r.Failed, len(r.Rows))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}
