// Package tune is a doctor for the kernel's settings: what a load needs of the
// machine, why, how sure that is, and how it is undone.
//
//  1. ReadMachine reads settings, limits and listeners of the calling thread's
//     network namespace. It needs no privilege.
//  2. Diagnose is pure: of a Load and a Machine it makes advice for each knob of
//     the table Knobs, and a preflight: can the load work at all.
//  3. Apply writes what was advised. Before each write it is in a journal, on
//     disk; after it the value is read back.
//  4. Rollback undoes what the journal has, where the value is still ours.
//  5. Verify puts a knob to the test in throwaway namespaces, and Judge, which is
//     pure, says what came of it. Nothing of the host's is written.
//
// All the rest works on the network namespace of the calling thread. Settings of the
// machine are only written from the initial one.
package tune
