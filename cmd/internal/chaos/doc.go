// Package chaos runs a pod.
package chaos
