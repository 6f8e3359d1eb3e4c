import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'

const GUARANTEES = readFileSync(join(import.meta.dirname, '../../docs/guarantees.md'), 'utf8').replace(/\s+/g, ' ')

/** docs/guarantees.md says so, in these words. */
export function isDocumented(t: Test, words: string): void {
  t.ok(GUARANTEES.includes(words), `the guarantees say: ${words}`)
}
