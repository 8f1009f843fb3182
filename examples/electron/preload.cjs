// What the page may do: ask, hear the answer as it comes, and stop it.
const { contextBridge, ipcRenderer } = require('electron')

const listeners = new Map()
ipcRenderer.on('text', (_, id, text) => listeners.get(id)?.(text))

let questions = 0

contextBridge.exposeInMainWorld('model', {
  ask(messages, onText) {
    const id = ++questions
    listeners.set(id, onText)
    const done = ipcRenderer.invoke('ask', id, messages).finally(() => listeners.delete(id))
    return { done, stop: () => ipcRenderer.send('stop', id) }
  },
})
