import { join, resolve } from 'node:path'
import ts from 'typescript'

const ROOT = resolve(import.meta.dirname, '../..')
const SOURCES: Readonly<Record<string, string>> = {
  tillsync: '../src/index.ts',
  'tillsync/sqlite': '../src/adapters/sqlite/adapter.ts',
  'tillsync/postgres': '../src/adapters/postgres/adapter.ts',
  'tillsync/http': '../src/transport/http.ts',
  'tillsync/testing': '../src/testing.ts',
}

/** A snippet of the docs with the package's names replaced by its sources, to be run in a folder of the root. */
export function withSources(code: string): string {
  return code.replace(/from '(tillsync[^']*)'/g, (_, name: string) => `from '${SOURCES[name]}'`)
}

/** What the compiler says to them; the sources that they import are checked by `npm run types`. */
export function compile(files: readonly string[]): string[] {
  const config = ts.getParsedCommandLineOfConfigFile(
    join(ROOT, 'tsconfig.json'),
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => undefined },
  )
  // As a host that is strict, and no stricter.
  const program = ts.createProgram(files, { ...config?.options, noUncheckedIndexedAccess: false })
  const said = files.flatMap((file) => {
    const source = program.getSourceFile(file)
    if (source === undefined) throw new Error(`${file} is not there`)
    return ts.getPreEmitDiagnostics(program, source)
  })
  return said.map((diagnostic) => ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n'))
}
