package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the result of a run.
type Report struct {
	// Conclusive: full length, and enough pairs for an interval that means something.
	Conclusive bool      `json:"conclusive"`
	Quick      bool      `json:"quick"`
	Began      time.Time `json:"began"`
	TookMS     int64     `json:"took_ms"`
	DurationMS int64     `json:"duration_ms"` // of one side in one pair
	Pairs      int       `json:"pairs"`
	Machine    Machine   `json:"machine"`
	Fsync      Fsync     `json:"fsync"`
	Servers    []Server  `json:"servers"`
	Metrics    []Value   `json:"metrics"`
	Baselines  []Health  `json:"baselines"`
}

func (r *Report) add(vs ...Value) { r.Metrics = append(r.Metrics, vs...) }

// Complaint says what stands against a run: targets missed, baselines unhealthy, measurements that
// failed. Empty is well. What was not measured is no complaint, and no pass either.
func (r *Report) Complaint() string {
	var missed, broken, ill []string
	for _, v := range r.Metrics {
		switch v.Verdict {
		case Missed:
			missed = append(missed, v.Name)
		case Broken:
			broken = append(broken, v.Name)
		case Met, WithinNoise, NotMeasured, Printed:
		}
	}
	for _, h := range r.Baselines {
		if !h.Healthy {
			ill = append(ill, h.Baseline)
		}
	}
	var out []string
	for _, part := range []struct {
		what string
		of   []string
	}{{"targets missed", missed}, {"not measurable", broken}, {"baselines unhealthy", ill}} {
		if len(part.of) > 0 {
			out = append(out, fmt.Sprintf("%s: %s", part.what, strings.Join(slices.Compact(slices.Sorted(slices.Values(part.of))), ", ")))
		}
	}
	return strings.Join(out, "; ")
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "crossfade bench, %s, %s\n", r.Began.Format("2006-01-02 15:04 MST"), (time.Duration(r.TookMS) * time.Millisecond).Round(time.Second))
	fmt.Fprintf(w, "machine  %d CPUs (%s), %s, kernel %s, %s, load before %s\n", m.CPUs, m.CPU, m.Memory, m.Kernel, m.Go, m.Load)
	fmt.Fprintf(w, "fsync    %.3f ms, p99 %.3f ms\n", r.Fsync.MedianMS, r.Fsync.P99MS)
	for _, s := range r.Servers {
		var set []string
		for _, k := range slices.Sorted(mapKeys(s.Durability)) {
			set = append(set, k+"="+s.Durability[k])
		}
		fmt.Fprintf(w, "server   %s %s (%s): %s: %s\n", s.Name, s.Version, s.Origin, s.Grade, strings.Join(set, " "))
	}
	fmt.Fprintf(w, "runs     %d pairs of %s a side; value: median of the pairs' ratios, A over B; interval by order\n\n",
		r.Pairs, time.Duration(r.DurationMS)*time.Millisecond)
	if err := r.writeMetrics(w); err != nil {
		return err
	}
	r.writeBeside(w)
	if len(r.Baselines) > 0 {
		fmt.Fprintf(w, "\nBASELINES, each with what the reference would be on this disk\n")
		for _, h := range r.Baselines {
			state := "healthy"
			if !h.Healthy {
				state = "UNHEALTHY"
			}
			fmt.Fprintf(w, "  %-9s  %s\n", state, h)
		}
	}
	r.writeEnd(w)
	return nil
}

func (r *Report) writeMetrics(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "METRIC\tVALUE\tINTERVAL\tTARGET\tVERDICT\tA\tB")
	for _, v := range r.Metrics {
		value, iv := "–", "–"
		if v.Value != nil {
			value = number(*v.Value) + unitSuffix(v.Unit)
			iv = number(*v.Low) + " – " + number(*v.High)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Name, value, iv, orDash(v.Target), v.Verdict, v.A.short(), v.B.short())
	}
	return tw.Flush()
}

// writeBeside has what does not fit into a row.
func (r *Report) writeBeside(w io.Writer) {
	head := "\nBESIDE, printed and not judged\n"
	seen := map[string]bool{} // the rows of one metric share what is beside it
	for _, v := range r.Metrics {
		for _, s := range v.Beside {
			key := s.What + s.Figures.long()
			if seen[key] {
				continue
			}
			seen[key] = true
			fmt.Fprintf(w, "%s  %-16s %s: %s\n", head, v.Name, s.What, s.Figures.long())
			head = ""
		}
	}
	for _, v := range r.Metrics {
		if v.Reason != "" {
			fmt.Fprintf(w, "\n%s is %s: %s\n  next: %s\n", v.Name, v.Verdict, v.Reason, orDash(v.Next))
		}
	}
}

func (r *Report) writeEnd(w io.Writer) {
	fmt.Fprintln(w)
	if !r.Conclusive {
		fmt.Fprintln(w, "NOT CONCLUSIVE: a short form, or fewer than five pairs. It shows that everything runs, and roughly how fast.")
	}
	counts := map[Verdict]int{}
	for _, v := range r.Metrics {
		counts[v.Verdict]++
	}
	fmt.Fprintf(w, "%d met, %d within noise, %d missed, %d not measured, %d broken, %d printed\n",
		counts[Met], counts[WithinNoise], counts[Missed], counts[NotMeasured], counts[Broken], counts[Printed])
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func unitSuffix(unit string) string {
	if unit == "x" || unit == "" {
		return unit
	}
	return " " + unit
}

// number has three digits that matter.
func number(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}

// short is rate and p99, or p50 and p99.
func (f figures) short() string {
	var parts []string
	if v, ok := f["rate"]; ok {
		parts = append(parts, number(v)+"/s")
	}
	for _, q := range []string{"p50", "p99"} {
		if v, ok := f[q+"_ms"]; ok {
			parts = append(parts, q+" "+number(v)+" ms")
		}
	}
	if len(parts) == 0 {
		return f.long()
	}
	return strings.Join(parts, " ")
}

// long is every figure.
func (f figures) long() string {
	var parts []string
	for _, name := range slices.Sorted(mapKeys(f)) {
		parts = append(parts, name+" "+number(f[name]))
	}
	return strings.Join(parts, ", ")
}

func (s *Side) short() string {
	if s == nil {
		return "–"
	}
	return s.What + ": " + s.Figures.short()
}

// short is a value in one line.
func (v Value) short() string {
	if v.Value == nil {
		return string(v.Verdict) + ": " + v.Reason
	}
	out := fmt.Sprintf("%s%s (%s – %s)", number(*v.Value), unitSuffix(v.Unit), number(*v.Low), number(*v.High))
	if v.Target != "" {
		out += ", target " + v.Target
	}
	return out + ": " + string(v.Verdict)
}
