// `createRequire` is a member here and not imported by name: webpack would take the calls for its
// own, and follow them.
import module from 'node:module'

/**
 * What `require` is in a file. Its failures are errors of Node.js, also where that file is not
 * there.
 */
export function requireFrom(file: string): NodeJS.Require {
  return module.createRequire(file)
}
