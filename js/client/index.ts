export { connect, type Client } from './client.js'
export { serve, type Host, type ServeOptions } from './host.js'
export type { Port } from './channel.js'
