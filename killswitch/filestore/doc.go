// Package filestore is the control store in a folder: for one proxy, or for several processes on one
// host that share the folder. It fills killswitch.ControlStore.
//
// # In the folder
//
//	lock                 taken by flock for every write, by whatever process
//	pods/<pod>.json      the record of one pod, with its revision and a checksum
//	history/<pod>.jsonl  its changes, one a line, only ever appended to
//	acks/<pod>.json      the latest word of each proxy
//	members/<proxy>.json the registration of one proxy
//
// <pod> and <proxy> are names with every byte but a–z, 0–9, "-" and "_" written as %XX.
//
// # Invariants
//
//   - A record is replaced as a whole: written to a temporary file, fsynced, renamed over the old one,
//     and its folder fsynced. A process or machine that stops at any point leaves the old record or the new.
//
//   - Readers take no lock.
//
//   - The modification time of a record only grows, so a change is seen by it even if it came within
//     one tick of the file system's clock and took over the inode of the one before the last.
//
//   - A file that is there and cannot be read is an error that names it. It is never written over.
//
//   - A history line that a crash has cut off is skipped by readers; its change is still in the
//     record, and the next append brings it again.
//
//   - When a lease runs out is by the machine's monotonic clock, which its processes share and nobody can set.
//
// The folder has to be on a local file system: flock and rename are not to be trusted on others.
package filestore
