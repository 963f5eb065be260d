// Package config reads crossfade.yaml. An unknown key, a pod without a store, a shop in two pods:
// each is an error that names the field, the value, what is allowed and what to do, before anything
// is started.
package config
