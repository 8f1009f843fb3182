export default {
  // An addon cannot be bundled: Node.js loads it from node_modules.
  serverExternalPackages: ['nodemlx'],
}
