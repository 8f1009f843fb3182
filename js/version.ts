/**
 * The version of this package. Written here, so that importing the package reads no file; a test
 * compares it with package.json.
 */
export const VERSION = '0.1.0'
