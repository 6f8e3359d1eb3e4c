import { registerHooks } from 'node:module'

const SOURCES = new URL('../../src/', import.meta.url).href
const MARK = '?another-version'

/** The library as a later release: the same sources, loaded once more under another number, as the next process would. */
export async function anotherVersion(): Promise<typeof import('../../src/index.ts')> {
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context)
      return context.parentURL?.endsWith(MARK) && found.url.startsWith(SOURCES) ? { ...found, url: found.url + MARK } : found
    },
    load(url, context, next) {
      if (url !== `${SOURCES}version.ts${MARK}`) return next(url, context)
      return { format: 'module', source: `export const VERSION = '99.0.0'`, shortCircuit: true }
    },
  })
  try {
    return await import(`${SOURCES}index.ts${MARK}`)
  } finally {
    hooks.deregister()
  }
}
