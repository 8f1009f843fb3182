/** The exit codes of the command line. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const

/** The command line was not understood; the message says what to type instead. */
export class UsageError extends Error {
  /** The command whose help to point to; none for the program's own. */
  readonly command: string | undefined

  constructor(message: string, command?: string) {
    super(message)
    this.command = command
  }
}

/** The user pressed Ctrl-C. */
export class Interrupted extends Error {}
