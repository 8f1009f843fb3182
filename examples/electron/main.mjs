// The main process: a window, and the model in a process of its own. Should that end, the window
// stays, and the next question starts it again.
import { fileURLToPath } from 'node:url'
import { app, BrowserWindow, ipcMain, utilityProcess } from 'electron'
import { connect } from 'nodemlx/client'

const MODEL = process.env.MODEL ?? 'demo'

const host = fileURLToPath(import.meta.resolve('nodemlx/client/host'))
const client = connect(() => utilityProcess.fork(host, [], { serviceName: 'nodemlx' }))

let loading
/** The model. It is loaded once, and again where it was lost. */
async function model() {
  loading ??= client.loadModel(MODEL)
  try {
    return await loading
  } catch (error) {
    loading = undefined
    throw error
  }
}

const running = new Map()

// A page may only ask and stop; it gets text, and never an object of the main process.
ipcMain.handle('ask', async ({ sender }, id, messages) => {
  const controller = new AbortController()
  const stop = () => controller.abort()
  running.set(id, stop)
  sender.once('destroyed', stop)
  try {
    const generation = (await model()).generate(messages, { signal: controller.signal })
    for await (const text of generation.textStream) sender.send('text', id, text)
    const { finishReason, usage } = await generation
    return { finishReason, usage }
  } catch (error) {
    if (error.code === 'HOST_GONE') loading = undefined
    return { error: { code: error.code, message: error.message } }
  } finally {
    running.delete(id)
    sender.off('destroyed', stop)
  }
})

ipcMain.on('stop', (_, id) => running.get(id)?.())

await app.whenReady()
const window = new BrowserWindow({
  webPreferences: { preload: fileURLToPath(new URL('preload.cjs', import.meta.url)) },
})
await window.loadFile(fileURLToPath(new URL('index.html', import.meta.url)))

app.on('window-all-closed', () => {
  client.close()
  app.quit()
})
