package comparator

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
	"time"
)

// The charts are SVG, made here, of our own words and numbers only: no identifier of a caller is in one.
// Series are told apart by a pattern or a dash and a mark, and by words; colour comes on top. Each is
// drawn twice, wide and narrow, so that its text is readable on a telephone: the style shows one.

// chart is what both kinds of charts have in common.
type chart struct {
	id, title, unit string
	from            time.Time
	step            time.Duration
	steps           int
	series          []*series
	log             bool // of lines
}

// series is one thing over time; NaN is no value.
type series struct {
	name   string
	style  int // of its pattern, or of its line
	values []float64
}

func (s *series) total() (sum float64) {
	for _, v := range s.values {
		if !math.IsNaN(v) {
			sum += v
		}
	}
	return sum
}

const (
	maxStyles  = 12 // patterns and dashes that the page defines
	wideChart  = 960
	thinChart  = 340
	chartTall  = 260
	chartLeft  = 64
	chartRight = 12
	chartTop   = 14
	chartFoot  = 30
	maxBar     = 40
)

// newChart spans the points of a trend: times are those of the first and the last.
func newChart(id, title, unit string, first, last time.Time, stepMinutes int64) *chart {
	step := time.Duration(max(1, stepMinutes)) * time.Minute
	return &chart{id: id, title: title, unit: unit, from: first, step: step, steps: min(10*maxTrend, int(last.Sub(first)/step)+1)}
}

// add appends a series; fill is its value where put says nothing.
func (c *chart) add(name string, style int, fill float64) *series {
	s := &series{name: name, style: style % maxStyles, values: make([]float64, c.steps)}
	for i := range s.values {
		s.values[i] = fill
	}
	c.series = append(c.series, s)
	return s
}

// put adds to the value of a step.
func (c *chart) put(s *series, at time.Time, v float64) {
	i := int(at.Sub(c.from) / c.step)
	if i < 0 || i >= len(s.values) {
		return
	}
	if math.IsNaN(s.values[i]) {
		s.values[i] = 0
	}
	s.values[i] += v
}

// empty tells whether there is nothing to draw.
func (c *chart) empty() bool {
	for i := range c.series {
		if c.series[i].total() > 0 {
			return false
		}
	}
	return true
}

// plot is the place in which one drawing of a chart draws.
type plot struct {
	b          strings.Builder
	c          *chart
	w          float64
	low, high  float64 // of the values
	inner, bar float64
}

func (c *chart) plot(width int, low, high float64) *plot {
	p := &plot{c: c, w: float64(width), low: low, high: high, inner: float64(width - chartLeft - chartRight)}
	p.bar = math.Min(maxBar, 0.8*p.inner/float64(c.steps))
	return p
}

func (p *plot) say(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// x is the middle of a step, y the height of a value.
func (p *plot) x(i int) float64 {
	return chartLeft + (float64(i)+0.5)*p.inner/float64(p.c.steps)
}

func (p *plot) y(v float64) float64 {
	const tall = chartTall - chartTop - chartFoot
	share := 0.0
	if p.c.log {
		share = (math.Log(math.Max(v, p.low)) - math.Log(p.low)) / (math.Log(p.high) - math.Log(p.low))
	} else if p.high > 0 {
		share = v / p.high
	}
	return chartTop + tall*(1-share)
}

// frame draws the axes, and puts what inside draws into an SVG with its title.
func (p *plot) frame(kind string, ticks []float64, label func(float64) string, inside func()) template.HTML {
	c := p.c
	p.say(`<svg class="chart %s" viewBox="0 0 %.0f %d" role="img" aria-label="%s">`, kind, p.w, chartTall, html.EscapeString(c.title))
	for _, t := range ticks {
		y := p.y(t)
		p.say(`<line class="grid" x1="%d" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`,
			chartLeft, p.w-chartRight, y, y, chartLeft-6, y+4, html.EscapeString(label(t)))
	}
	inside()
	p.say(`<line class="axis" x1="%d" x2="%.1f" y1="%d" y2="%d"/>`, chartLeft, p.w-chartRight, chartTall-chartFoot, chartTall-chartFoot)
	for _, i := range p.marks() {
		p.say(`<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, p.x(i), chartTall-chartFoot+18, c.from.Add(time.Duration(i)*c.step).UTC().Format(c.layout()))
	}
	p.say(`</svg>`)
	return template.HTML(p.b.String()) //nolint:gosec // made of our own words and of numbers
}

// layout writes a time at the axis.
func (c *chart) layout() string {
	if time.Duration(c.steps)*c.step > 36*time.Hour {
		return "01-02"
	}
	return "15:04"
}

// marks are the steps that get a label: as many as fit.
func (p *plot) marks() []int {
	most := int(p.inner / 70)
	every := max(1, (p.c.steps+most-1)/most)
	if p.c.layout() == "01-02" { // one label a day at most
		every = max(every, int(24*time.Hour/p.c.step))
	}
	var out []int
	for i := every / 2; i < p.c.steps; i += every {
		out = append(out, i)
	}
	if len(out) == 0 {
		out = append(out, 0)
	}
	return out
}

// bars draws the series on top of each other.
func (c *chart) bars(kind string, width int) template.HTML {
	sums := make([]float64, c.steps)
	most := 0.0
	for _, s := range c.series {
		for i, v := range s.values {
			sums[i] += math.Max(0, v)
			most = math.Max(most, sums[i])
		}
	}
	ticks := niceTicks(most)
	p := c.plot(width, 0, ticks[len(ticks)-1])
	return p.frame(kind, ticks, shortNumber, func() {
		base := make([]float64, c.steps)
		for _, s := range c.series {
			for i, v := range s.values {
				if v <= 0 {
					continue
				}
				top, bottom := p.y(base[i]+v), p.y(base[i])
				base[i] += v
				p.say(`<rect class="bar" fill="url(#pattern-%d)" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, s.style, p.x(i)-p.bar/2, top, p.bar, math.Max(1, bottom-top))
			}
		}
	})
}

// lines draws each series as a line with marks, on a logarithmic scale: latencies differ by powers of ten.
func (c *chart) lines(kind string, width int, label func(float64) string) template.HTML {
	low, high := math.Inf(1), 0.0
	for _, s := range c.series {
		for _, v := range s.values {
			if v > 0 {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
	}
	c.log = true
	low = math.Pow(10, math.Floor(math.Log10(low)))
	high = math.Max(math.Pow(10, math.Ceil(math.Log10(high))), 10*low)
	var ticks []float64
	for t := low; t <= high*1.01; t *= 10 {
		ticks = append(ticks, t)
	}
	p := c.plot(width, low, high)
	return p.frame(kind, ticks, label, func() {
		for _, s := range c.series {
			p.line(s)
		}
	})
}

func (p *plot) line(s *series) {
	var points []string
	for i, v := range s.values {
		if v > 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", p.x(i), p.y(v)))
		}
	}
	p.say(`<polyline class="line line-%d" points="%s"/>`, s.style, strings.Join(points, " "))
	for i, v := range s.values {
		if v > 0 {
			p.say(`<use href="#mark-%d" class="mark mark-%d" x="%.1f" y="%.1f"/>`, s.style, s.style, p.x(i), p.y(v))
		}
	}
}

// niceTicks are four or so round numbers from 0 to at least most.
func niceTicks(most float64) []float64 {
	const about = 4
	raw := math.Max(most, 1) / about
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * unit
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw {
			step = m * unit
			break
		}
	}
	step = math.Max(step, 1)
	ticks := []float64{0}
	for t := step; ; t += step {
		ticks = append(ticks, t)
		if t >= most {
			return ticks
		}
	}
}

// shortNumber writes a number for an axis: 1,200 as 1.2k.
func shortNumber(v float64) string {
	switch {
	case v >= 1e9:
		return trimNumber(v/1e9) + "G"
	case v >= 1e6:
		return trimNumber(v/1e6) + "M"
	case v >= 1e3:
		return trimNumber(v/1e3) + "k"
	default:
		return trimNumber(v)
	}
}

func trimNumber(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

func microsTick(us float64) string {
	switch {
	case us >= 1e6:
		return trimNumber(us/1e6) + " s"
	case us >= 1e3:
		return trimNumber(us/1e3) + " ms"
	default:
		return trimNumber(us) + " µs"
	}
}
