import { basename, join, resolve } from 'node:path'
import ts from 'typescript'

const ROOT = resolve(import.meta.dirname, '../..')
const SOURCES: Readonly<Record<string, string>> = {
  tillsync: '../src/index.ts',
  'tillsync/sqlite': '../src/adapters/sqlite/adapter.ts',
  'tillsync/postgres': '../src/adapters/postgres/adapter.ts',
  'tillsync/http': '../src/transport/http.ts',
  'tillsync/file': '../src/transport/file.ts',
  'tillsync/nats': '../src/transport/nats.ts',
  'tillsync/testing': '../src/testing.ts',
}

/** A snippet of the docs with the package's names replaced by its sources, to be run in a folder of the root. */
export function withSources(code: string): string {
  return code.replace(/from '(tillsync[^']*)'/g, (_, name: string) => {
    if (SOURCES[name] === undefined) throw new Error(`The package has no ${name}`)
    return `from '${SOURCES[name]}'`
  })
}

/** What the compiler says to them; the sources that they import are checked by `npm run types`. `beside`: files that declare what they take for granted. */
export function compile(files: readonly string[], beside: readonly string[] = []): string[] {
  const config = ts.getParsedCommandLineOfConfigFile(
    join(ROOT, 'tsconfig.json'),
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => undefined },
  )
  // As a host that is strict, and no stricter.
  const program = ts.createProgram([...files, ...beside], {
    ...config?.options,
    noUncheckedIndexedAccess: false,
    noUnusedLocals: false,
    noUnusedParameters: false,
  })
  const said = [...files, ...beside].flatMap((file) => {
    const source = program.getSourceFile(file)
    if (source === undefined) throw new Error(`${file} is not there`)
    return ts.getPreEmitDiagnostics(program, source)
  })
  return said.map(({ file, start, messageText }) => {
    const line = file && start !== undefined ? file.text.split('\n')[file.getLineAndCharacterOfPosition(start).line]?.trim() : undefined
    return `${basename(file?.fileName ?? '')}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}: ${line}`
  })
}
