// Package e2e holds the tests of whole paths: real proxies as processes of their own, real servers
// from the lab, and order files played against them as checkouts would. Each test has a short form;
// CROSSFADE_LONG=1 (make test-all) plays the long one.
package e2e
