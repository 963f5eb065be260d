package filestore

import "github.com/crossfade-proxy/crossfade/backends"

// FileName is a pod's name as part of a file's name: see the package's description.
func FileName(pod backends.Pod) string { return escape(pod) }

// PodOf reads what FileName writes.
func PodOf(name string) (pod backends.Pod, ok bool) { return unescape(name) }
