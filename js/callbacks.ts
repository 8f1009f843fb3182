/**
 * Calls a callback of the user's; what it throws, and the rejection of a promise that it gives in
 * spite of its type, goes to `onError`.
 */
export function callBack<T>(
  callback: ((value: T) => unknown) | undefined,
  value: T,
  onError: (error: unknown) => void,
): void {
  try {
    const given = callback?.(value)
    if (given instanceof Promise) given.catch(onError)
  } catch (error) {
    onError(error)
  }
}
