// A stand-in for Electron's module: one process plays the main process and the page, and a utility
// process is a child process with the same kind of channel.

const { fork } = require('node:child_process')
const { EventEmitter } = require('node:events')

if (process.argv[2] === 'utility') {
  const port = new EventEmitter()
  // As in Electron, messages wait until somebody listens.
  port.on('newListener', (event) => {
    if (event === 'message' && port.listenerCount('message') === 0)
      process.on('message', (data) => port.emit('message', { data, ports: [] }))
  })
  process.parentPort = Object.assign(port, { postMessage: (message) => process.send(message) })
  import(process.argv[3])
}

class UtilityProcess extends EventEmitter {
  constructor(file) {
    super()
    this.child = fork(module.filename, ['utility', file], { serialization: 'advanced' })
    this.child.on('message', (message) => this.emit('message', message))
    this.child.on('exit', (code) => this.emit('exit', code))
  }

  postMessage(message) {
    this.child.send(message, () => undefined)
  }
}

exports.hosts = []
exports.utilityProcess = {
  fork(file) {
    const host = new UtilityProcess(file)
    exports.hosts.push(host)
    return host
  },
}

const handlers = new Map()
exports.ipcMain = Object.assign(new EventEmitter(), {
  handle: (channel, handler) => handlers.set(channel, handler),
})
exports.ipcRenderer = Object.assign(new EventEmitter(), {
  invoke: async (channel, ...args) => handlers.get(channel)({ sender }, ...args),
  send: (channel, ...args) => exports.ipcMain.emit(channel, { sender }, ...args),
})
const sender = Object.assign(new EventEmitter(), {
  send: (channel, ...args) => exports.ipcRenderer.emit(channel, {}, ...args),
})

exports.page = {}
exports.contextBridge = {
  exposeInMainWorld: (name, api) => {
    exports.page[name] = api
  },
}
exports.app = Object.assign(new EventEmitter(), {
  whenReady: () => Promise.resolve(),
  quit: () => undefined,
})
exports.BrowserWindow = class {
  async loadFile(file) {
    exports.page.file = file
  }
}
