//go:build !race

package replayer

// raceDetected: the race detector makes everything several times slower.
const raceDetected = false
