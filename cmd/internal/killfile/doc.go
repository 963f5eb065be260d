// Package killfile kills pods by files: whoever can do nothing but write a file into a folder that a proxy watches can take a
// pod back to Redis. It needs Redis, as every kill does, and neither MySQL nor the control store nor the network.
//
// # In the folder
//
//	kill.<pod>                   asks for a kill; what is in it is why
//	kill.<pod>.taken-<by>        the same, in the hands of a proxy
//	kill.<pod>.done-<when>-<by>  what became of it, with the steps; also .failed- and .dry-run-
//
// <pod> is the pod's name, or what filestore.FileName makes of it; <by> is the proxy's. Lines "from: live", "from: shadow" and
// "dry-run: yes" at the beginning mean what the flags of 'crossfade kill' mean.
//
// # Once
//
// A file is acted on when it was seen the same at two looks, so that it is not read half-written. Of the proxies that watch the
// folder the one acts that renames the file first. It then looks at Redis's fence, writes into the file which stage and epoch it
// kills, and only then kills that. If it dies, another goes on after TakenFor: with the stage and epoch where they were written
// down, so that a kill that was made is found to be made, whatever the pod has been moved to since.
package killfile
