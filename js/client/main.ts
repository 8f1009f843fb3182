// A host by itself: the file for `new Worker`, `fork` and Electron's `utilityProcess.fork`.
import { serve } from './host.js'

const { closed } = serve()

// Threads and child processes end by themselves, and Electron's utility processes do not.
if ('parentPort' in process) void closed.then(() => process.exit())
