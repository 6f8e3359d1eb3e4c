import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Command, InvalidArgumentError } from 'commander'
import { Random, seedOfRun } from './support/random.ts'

/** Whatever lies here is run. */
const FOLDERS = ['property', 'simulation']
/** And these, of which some take longer than any budget: they do more where one is given. */
const OTHERS = [
  'contract/http',
  'contract/memory',
  'contract/pull',
  'fault/crowd',
  'fault/kill',
  'fault/kill-steps',
  'fault/once',
  'fault/weeks-offline',
  'fault/archive-prune',
].map((name) => join(import.meta.dirname, `${name}.test.ts`))
/** Budgets in milliseconds: below the first, starting a server takes longer than the test; with more than the second, rounds are few. */
const [SHORTEST, LONGEST] = [4_000, 20_000]
/** How much longer than its budget a run may take before it counts as hanging: servers, shrinking, and its own timeouts come first. */
const GRACE_MS = 180_000
/** How much of what a broken run said is shown. */
const LINES = 120

const command = new Command('npm run soak --')
  .description(
    'Runs every random test in turn, each time with another seed, until the time is over. Stops at the first break and says how to replay it.',
  )
  .requiredOption('--seconds <n>', 'how long', wholeNumber)
  .option('--seed <n>', 'from which all other seeds follow (default: a new one)', wholeNumber)
  .allowExcessArguments(false)
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const { seconds, seed = seedOfRun() } = command.opts<{ seconds: number; seed?: number }>()

interface Run {
  readonly file: string
  readonly seed: number
  readonly ms: number
}

let running: ChildProcess | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    running?.kill('SIGKILL')
    process.exit(130)
  })
}
process.exit(await soak())

async function soak(): Promise<number> {
  const end = Date.now() + seconds * 1_000
  const random = new Random(seed)
  const files = [...FOLDERS.flatMap(testsIn), ...OTHERS].map((file) => relative(process.cwd(), file))
  console.log(`soak --seconds ${seconds} --seed ${seed}: ${files.length} tests`)
  let runs = 0
  for (;;) {
    for (const [at, file] of random.shuffle(files).entries()) {
      const left = end - Date.now()
      if (left <= 0) {
        console.log(`${runs} runs, no break`)
        return 0
      }
      const ms = Math.round(Math.min(LONGEST, Math.max(SHORTEST, left / (files.length - at))))
      if (!(await holds({ file, seed: random.int(1, 2 ** 31 - 1), ms }))) return 1
      runs++
    }
  }
}

function testsIn(folder: string): string[] {
  const path = join(import.meta.dirname, folder)
  try {
    return readdirSync(path)
      .filter((name) => name.endsWith('.test.ts'))
      .sort()
      .map((name) => join(path, name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

async function holds(run: Run): Promise<boolean> {
  const { file, seed, ms } = run
  const began = Date.now()
  process.stdout.write(`${file} --seed=${seed} --ms=${ms} `)
  const { output, ended } = await outcome(run)
  console.log(`${ended === undefined ? 'ok' : 'BROKEN'}, ${((Date.now() - began) / 1_000).toFixed(1)} s`)
  if (ended === undefined) return true
  console.log(`\n${output.trimEnd().split('\n').slice(-LINES).join('\n')}\n\n${file} ${ended}. Replay it:\n${replayOf(run, output)}`)
  return false
}

/** What a run said, and how it ended where it did not end well. */
async function outcome({ file, seed, ms }: Run): Promise<{ readonly output: string; readonly ended: string | undefined }> {
  // Without it tap gives a file 30 seconds, however slow the machine is.
  const env = { ...process.env, TAP_TIMEOUT: String((ms + GRACE_MS) / 1_000) }
  const child = spawn(process.execPath, [file, `--seed=${seed}`, `--ms=${ms}`], { stdio: ['ignore', 'pipe', 'pipe'], env })
  running = child
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  let isHanging = false
  const timer = setTimeout(() => {
    isHanging = true
    child.kill('SIGKILL')
  }, ms + GRACE_MS)
  const closed = once(child, 'close')
  const [code, signal] = await once(child, 'exit')
  await Promise.race([closed, pause(1_000)]) // a process that it left behind may hold its output open
  clearTimeout(timer)
  running = undefined
  if (isHanging) return { output, ended: `did not end within ${(ms + GRACE_MS) / 1_000} s` }
  return { output, ended: code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}` }
}

/** The arguments that the test last said; what it says beside the seed stands for its budget. */
function replayOf({ file, seed, ms }: Run, output: string): string {
  const said = [...output.matchAll(/^\s*# (--seed=\S+)((?: --\S+=\S+)*)/gm)].at(-1)
  return `node ${file} ${said?.[1] ?? `--seed=${seed}`}${said?.[2] || ` --ms=${ms}`}`
}

function wholeNumber(text: string): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= 1 && number < 2 ** 31) return number
  throw new InvalidArgumentError('Expected a whole number from 1 up, below 2^31.')
}
