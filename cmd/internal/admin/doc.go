// Package admin is the admin service: its handler, which asks a [Backend], and its client, which the
// command line uses. Calls carry a bearer token; without configured tokens the service listens on
// loopback only and the caller is "local". Requests with a Host or Origin that is not the service's
// own are refused, so that a page in an operator's browser cannot reach it.
package admin
