package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const watchEvery = time.Second

// On a terminal a page takes the place of the one before: from the top, and what is left of that is cleared.
// Nothing is cleared beforehand, so that it does not flicker.
const (
	screenTop      = "\x1b[H"
	clearLine      = "\x1b[K"
	clearBelow     = "\x1b[J"
	clearScreen    = "\x1b[2J"
	refreshHelp    = "show again every second, until interrupted"
	interruptedTip = "  (Ctrl-C ends)"
)

// watching repeats once until the context ends; a failure is shown and does not end it, unless the command
// itself was wrong. What is not a terminal gets page after page.
func watching(ctx context.Context, g *globals, once func(context.Context) error) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	out := g.out
	defer func() { g.out = out }()
	screen := isTerminal(out) && !g.json
	if screen {
		g.say(clearScreen)
	}
	for {
		var page bytes.Buffer
		g.out = &page
		err := once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && exitCode(err) == exitUsage:
			return err
		case err != nil && screen: // the error stream would be written over
			g.say("%v\n", err)
		case err != nil:
			g.tell("%v\n", err)
		}
		if err := show(out, page.String(), screen, g.json); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// show writes one page, in one piece. On a screen it is cut to what fits: what scrolls cannot be replaced.
func show(out io.Writer, page string, screen, plain bool) error {
	var b bytes.Buffer
	head := time.Now().Format(time.TimeOnly)
	switch {
	case plain:
		b.WriteString(page)
	case screen:
		f, _ := out.(*os.File) // a screen is one
		lines, columns := screenSize(f)
		b.WriteString(screenTop)
		b.WriteString(fit(head+interruptedTip+"\n\n"+page, lines, columns))
		b.WriteString(clearBelow)
	default:
		fmt.Fprintf(&b, "%s\n\n%s", head, page)
	}
	_, err := out.Write(b.Bytes())
	return err
}

// fit cuts a page to a screen's lines and columns, where they are known (not 0), and has each line clear
// what was behind it.
func fit(page string, lines, columns int) string {
	const more = "… a taller window shows more"
	all := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
	if lines > 1 && len(all) >= lines { // the cursor rests on the last one
		all = append(all[:lines-2:lines-2], more)
	}
	for i, line := range all {
		if r := []rune(line); columns > 0 && len(r) > columns {
			line = string(r[:columns-1]) + "…"
		}
		all[i] = line + clearLine + "\n"
	}
	return strings.Join(all, "")
}

// isTerminal tells whether somebody may be looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
