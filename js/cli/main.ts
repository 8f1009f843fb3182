#!/usr/bin/env node
import { run } from './run.js'

// The exit code is set and the program left to end, so that what was written to a pipe is not lost.
void run(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
