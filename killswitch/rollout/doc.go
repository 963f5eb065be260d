// Package rollout moves many pods to one stage, in waves, and stops by itself when something is not as it
// should be.
//
// # Words
//
//   - A rollout is a fixed list of pods that stand in one stage and are to go to the next, in an order (lowest
//     traffic first, unless asked otherwise) and in waves.
//   - A wave is moved pod by pod, one at a time. Then it soaks: for a while the pods that were moved are only watched.
//   - To halt is to move no further pod, until a person says resume or abort. Pods that were moved stay where they are:
//     the way back of a pod is a kill or a switch, by people, and is never taken by a rollout.
//
// # The model
//
//   - One document in the control store ([killswitch.Documents]) has the rollout as it is ([State]); there is one at a time. What
//     is to be done next follows from it alone ([State.Next]). It is changed by compare-and-set only.
//   - Any proxy that serves all pods of the rollout may lead it: [Runner] takes the lead when that of another has
//     stood still for [Takeover], by its own clock. Two that both think they lead do no harm: each step is written down
//     before it is taken, and what moves a pod is package killswitch, whose switches exclude each other.
//   - A pod is moved by a switch like any other, with all of its gates. A rollout forces none.
//
// # Invariants
//
//   - No pod of a wave is moved before every pod of the waves before has been moved and has soaked.
//   - A gate that fails, a switch that was undone, a pod that somebody else has moved (a kill, above all), and a watched
//     pod that is not well or cannot be looked at, each halts the rollout: in doubt it does not go on.
//   - What has soaked is counted in the record, by the leaders' own clocks, and only while all pods that were moved were
//     seen to be well. Instants in the record are for people.
package rollout
