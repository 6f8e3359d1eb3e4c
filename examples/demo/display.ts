import { styleText } from 'node:util'
import { MultiBar, type SingleBar } from 'cli-progress'

/** What is shown of a till while it sells. */
export interface TillView {
  readonly name: string
  readonly total: number
  readonly sold: number
  readonly pending: number
  readonly applied: number
  readonly doing: string
}

/** Where the show is to be watched. */
export interface Display {
  /** A piece of the story: what happens, and below it what that means. */
  tell(what: string, meaning?: string): void
  show(tills: readonly TillView[]): void
  end(): void
}

export function createDisplay(): Display {
  return process.stdout.isTTY ? new Bars() : new Lines()
}

export const number = (value: number | string): string => new Intl.NumberFormat('en', { maximumFractionDigits: 20 }).format(value as number)

export function count(value: number, noun: string): string {
  const plural = noun.endsWith('y') ? `${noun.slice(0, -1)}ies` : `${noun}s`
  return `${number(value)} ${value === 1 ? noun : plural}`
}

const MOST_NAMED = 4

/** Of tills, for a sentence. */
export function namesOf(tills: readonly { readonly name: string }[]): string {
  return tills.length > MOST_NAMED ? count(tills.length, 'till') : tills.map(({ name }) => name).join(', ')
}

const CLEAR_RIGHT = '\x1b[K'

class Bars implements Display {
  private readonly began = performance.now()
  private readonly bars: SingleBar[] = []
  private readonly multi = new MultiBar({
    format: `{name} ${styleText('green', '{bar}')} {sold} sold {pending} pending {applied} applied  {doing}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 16,
    fps: 10,
    hideCursor: true,
    forceRedraw: true,
    emptyOnZero: true,
    gracefulExit: false,
  })

  tell(what: string, meaning?: string): void {
    const lines = stamped(this.began, what, meaning)
    if (this.bars.length === 0) console.log(lines.join('\n'))
    else for (const line of lines) this.multi.log(`${line}${CLEAR_RIGHT}\n`)
  }

  show(tills: readonly TillView[]): void {
    const width = String(Math.max(...tills.map((till) => till.total))).length
    for (const [n, { name, total, sold, pending, applied, doing }] of tills.entries()) {
      const waits = number(pending).padStart(5)
      const payload = {
        name: styleText('bold', name),
        sold: `${String(sold).padStart(width)}/${total}`,
        pending: pending > 0 ? styleText('yellow', waits) : waits,
        applied: number(applied).padStart(6),
        doing,
      }
      this.bars[n] ??= this.multi.create(total, 0, payload)
      this.bars[n].update(sold, payload)
    }
  }

  end(): void {
    this.multi.update()
    this.multi.stop()
  }
}

const STATUS_MS = 4_000

/** Without a terminal: the story, and now and then how far the tills are. */
class Lines implements Display {
  private readonly began = performance.now()
  private shown = 0

  tell(what: string, meaning?: string): void {
    console.log(stamped(this.began, what, meaning).join('\n'))
  }

  show(tills: readonly TillView[]): void {
    const now = performance.now()
    if (tills.length === 0 || now - this.shown < STATUS_MS) return
    this.shown = now
    const all = tills.map(({ name, total, sold, pending, applied }) => `${name} ${sold}/${total} sold, ${pending} pending, ${applied} applied`)
    this.tell(`· ${all.join(' | ')}`)
  }

  end(): void {}
}

function stamped(began: number, what: string, meaning: string | undefined): string[] {
  const stamp = styleText('dim', `${((performance.now() - began) / 1_000).toFixed(1).padStart(5)} s`)
  return [`${stamp}  ${what}`, ...(meaning === undefined ? [] : [`${' '.repeat(9)}${meaning}`])]
}
