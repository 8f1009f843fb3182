import { byId } from './elements.js'
import { keepSetting, setting } from './storage.js'

const KEPT = ['temperature', 'max-tokens', 'theme', 'key'] as const

/** Shows the settings; resolves to the system prompt, or `undefined` where nothing was saved. */
export function openSettings(system: string): Promise<string | undefined> {
  const dialog = byId('settings', HTMLDialogElement)
  const prompt = byId('system', HTMLTextAreaElement)
  prompt.value = system
  for (const name of KEPT) field(name).value = setting(name) ?? ''
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener(
      'close',
      () => {
        if (dialog.returnValue !== 'save') {
          resolve(undefined)
          return
        }
        for (const name of KEPT) keepSetting(name, field(name).value.trim())
        showTheme()
        resolve(prompt.value)
      },
      { once: true },
    )
  })
}

/** The colours that were chosen. */
export function showTheme(): void {
  const theme = setting('theme')
  if (theme === undefined) delete document.documentElement.dataset['theme']
  else document.documentElement.dataset['theme'] = theme
}

/** A setting that is a number, where it was given. */
export function numberSetting(name: 'temperature' | 'max-tokens'): number | undefined {
  const value = setting(name)
  return value === undefined ? undefined : Number(value)
}

function field(name: string): HTMLInputElement | HTMLSelectElement {
  const found = document.getElementById(name)
  if (found instanceof HTMLInputElement || found instanceof HTMLSelectElement) return found
  throw new Error(`the page has no ${name}`)
}
