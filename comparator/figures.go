package comparator

import (
	"html/template"
	"math"
	"time"
)

// figure is a chart as the page shows it: drawn twice, with a legend and its numbers as a table.
type figure struct {
	ID, Title, Lead string
	Wide, Thin      template.HTML
	Legend          []legend
	Lines           bool // the legend shows lines, not patterns
	Head            []string
	Rows            [][]string
	Empty           string // why there is nothing to draw
}

type legend struct {
	Name  string
	Style int
	Total string
}

// figures are the report's charts.
func (r *Report) figures() []figure {
	return []figure{r.divergenceFigure(), r.differencesFigure(), r.coverageFigure(), r.latencyFigure()}
}

// figureOf draws a bar chart.
func figureOf(c *chart, lead, empty string) figure {
	f := figure{ID: c.id, Title: c.title, Lead: lead}
	if c.empty() {
		f.Empty = empty
		return f
	}
	f.Wide, f.Thin = c.bars("wide", wideChart), c.bars("thin", thinChart)
	for _, s := range c.series {
		f.Legend = append(f.Legend, legend{s.name, s.style, count(int64(s.total()), c.unit)})
	}
	f.numbers(c, func(v float64) string { return group(int64(v)) })
	return f
}

// numbers fills in the table: steps in which nothing happened are left out.
func (f *figure) numbers(c *chart, write func(float64) string) {
	f.Head = []string{"from, UTC"}
	for _, s := range c.series {
		f.Head = append(f.Head, s.name)
	}
	for i := range c.steps {
		row, some := []string{c.from.Add(time.Duration(i) * c.step).UTC().Format("01-02 15:04")}, false
		for _, s := range c.series {
			if v := s.values[i]; math.IsNaN(v) || v == 0 {
				row = append(row, "–")
			} else {
				row, some = append(row, write(v)), true
			}
		}
		if some {
			f.Rows = append(f.Rows, row)
		}
	}
}

// span is from the first to the last point of the trend.
func (r *Report) span() (first, last time.Time) {
	see := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	for i := range r.Trend.Coverage {
		see(r.Trend.Coverage[i].At)
	}
	for i := range r.Trend.Findings {
		see(r.Trend.Findings[i].At)
	}
	return first, last
}

func (r *Report) divergenceFigure() figure {
	first, last := r.span()
	c := newChart("divergence", "Confirmed findings over time, by class", "finding", first, last, r.Trend.StepMinutes)
	for i, class := range Classes() {
		var s *series
		for _, p := range r.Trend.Findings {
			if p.Class != class {
				continue
			}
			if s == nil {
				s = c.add(class.String(), i, 0)
			}
			c.put(s, p.At, float64(p.Findings))
		}
	}
	return figureOf(c, "Each finding stands where it was last seen.", "No finding was confirmed in this time.")
}

func (r *Report) differencesFigure() figure {
	first, last := r.span()
	c := newChart("differences", "Decisions that differed or were not determined", "decision", first, last, r.Trend.StepMinutes)
	for i, col := range []Column{Confirmed, Explained, Excused, Undetermined} {
		c.column(r, col.String(), i, col)
	}
	return figureOf(c, "Explained ones are what concurrency does to two stores; they say how much was really contended.", "No decision differed in this time.")
}

func (r *Report) coverageFigure() figure {
	first, last := r.span()
	c := newChart("coverage-chart", "Coverage: what became of the decisions", "decision", first, last, r.Trend.StepMinutes)
	c.column(r, "compared", 0, Matched, Probed, Explained, Confirmed, Excused)
	c.column(r, "sampled out", 1, SampledOut)
	c.column(r, "undetermined or lost", 2, Undetermined, Lost)
	return figureOf(c, "Only what was compared proves anything.", "No decision is in the account of this time.")
}

// column adds columns of the account as one series.
func (c *chart) column(r *Report, name string, style int, cols ...Column) {
	s := c.add(name, style, 0)
	for i := range r.Trend.Coverage {
		p := &r.Trend.Coverage[i]
		var n int64
		for _, col := range cols {
			n += p.Of(col)
		}
		c.put(s, p.At, float64(max(0, n)))
	}
}

func (r *Report) latencyFigure() figure {
	f := figure{ID: "latency-chart", Title: "Latency of truth and shadow", Lead: "Half of the decisions took at most p50, and one in a hundred longer than p99. The scale is logarithmic.", Lines: true,
		Empty: "No latency was counted in this time."}
	if len(r.LatencyTrend) == 0 {
		return f
	}
	step := max(r.Trend.StepMinutes, SlotMinutes)
	c := newChart(f.ID, f.Title, "", r.LatencyTrend[0].At, r.LatencyTrend[len(r.LatencyTrend)-1].At, step)
	for i, q := range []struct {
		name string
		of   func(*LatencyPoint) int64
	}{
		{"truth, p50", func(p *LatencyPoint) int64 { return p.Truth.P50 }}, {"truth, p99", func(p *LatencyPoint) int64 { return p.Truth.P99 }},
		{"shadow, p50", func(p *LatencyPoint) int64 { return p.Shadow.P50 }}, {"shadow, p99", func(p *LatencyPoint) int64 { return p.Shadow.P99 }},
	} {
		s := c.add(q.name, i, math.NaN())
		for j := range r.LatencyTrend {
			if us := q.of(&r.LatencyTrend[j]); us > 0 {
				c.put(s, r.LatencyTrend[j].At, float64(us))
			}
		}
		f.Legend = append(f.Legend, legend{q.name, i, ""})
	}
	if c.empty() {
		f.Legend = nil
		return f
	}
	f.Empty = ""
	f.Wide, f.Thin = c.lines("wide", wideChart, microsTick), c.lines("thin", thinChart, microsTick)
	f.numbers(c, func(us float64) string { return micros(int64(us)) })
	return f
}

// percentOf is percent for the page's tables.
func percentOf(n, of int64) string {
	if of == 0 {
		return "–"
	}
	return percent(n, of)
}
