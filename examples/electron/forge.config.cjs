// What native code reads cannot be in the archive.
module.exports = {
  packagerConfig: { asar: { unpack: '**/node_modules/{nodemlx,@nodemlx}/**' } },
}
