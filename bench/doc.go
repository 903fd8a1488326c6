// Package bench holds what hotlap is measured with: the target server
// (target), the floor client, the sink and their like in C (floor), the engine's own load
// (enginebench), the side-by-side harness (run), flame graphs (flame) and the
// long campaigns (soak).
package bench
