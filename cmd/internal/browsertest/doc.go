// Package browsertest opens the report's page in a real browser (build tag browser): Chromium without a
// window, driven by playwright-core. It looks at what a test of the text cannot see: that nothing is
// logged or loaded, that the page fits wide and narrow screens, that every link is reached by keyboard, that
// words and patterns say what colours say, and that text can be told from its background. It keeps pictures
// of what it saw.
//
// It has tests only.
package browsertest
