// A host by itself: the file for `new Worker`, `fork` and Electron's `utilityProcess.fork`.
import { serve } from './host.js'

serve()
