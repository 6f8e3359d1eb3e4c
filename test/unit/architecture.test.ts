import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'

/** Which file imports what; `types` says whether only types are taken, which leave no trace at run time. */
interface Import {
  readonly from: string
  readonly to: string
  readonly types: boolean
}

const SRC = resolve(import.meta.dirname, '../../src')
/** A public entry of its own, which sees everything but the adapters; nothing else may lean on it. */
const TESTING = /^testing(\/|\.ts$)/
const FOLDERS = ['capture', 'transport', 'apply', 'adapters/sqlite', 'adapters/postgres']
/** Everything meets here, and only here. */
const COMPOSITION = [
  'register.ts',
  'register-face.ts',
  'register-returns.ts',
  'register-subscription.ts',
  'register-source.ts',
  'register-transfer.ts',
  'register-upkeep.ts',
  'courier.ts',
  'mail-courier.ts',
  'mail-listener.ts',
  'postman.ts',
  'central.ts',
  'central-doors.ts',
  'central-face.ts',
  'central-installation.ts',
  'central-publishing.ts',
  'archive-upkeep.ts',
  'audience-upkeep.ts',
  'compare-book.ts',
  'comparing.ts',
  'herald.ts',
  'sealing.ts',
  'contacts.ts',
  'credential-book.ts',
  'registers.ts',
  'pull-book.ts',
  'pulled-till.ts',
  'rounds.ts',
  'index.ts',
]
/** Which file or folder may use which package at run time. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  capture: ['kysely'],
  apply: ['kysely', 'p-queue'],
  'transport/codec.ts': ['msgpackr'],
  'transport/gate.ts': ['p-queue', 'quick-lru'],
  'transport/limiter.ts': ['quick-lru'],
  'transport/nats.ts': ['@nats-io/jetstream'],
  'transport/nats-connection.ts': ['@nats-io/transport-node'],
  'transport/nats-errors.ts': ['@nats-io/jetstream', '@nats-io/transport-node'],
  'transport/nats-letters.ts': ['@nats-io/jetstream', '@nats-io/transport-node'],
  'transport/nats-provision.ts': ['@nats-io/jetstream', '@nats-io/transport-node', 'p-queue'],
  'adapters/sqlite': ['kysely'],
  'adapters/postgres': ['kysely'],
  'adapters/postgres/copy.ts': ['pg-copy-streams'], // the driver's own, published apart
  'register-transfer.ts': ['p-queue'],
  'central.ts': ['p-queue'],
  'one-at-a-time.ts': ['p-queue'],
  'postman.ts': ['p-queue'],
  'pulled-till.ts': ['p-queue'],
  'rounds.ts': ['p-queue'],
  'decimal.ts': ['big.js'],
}

function folderOf(file: string): string {
  return FOLDERS.find((folder) => file.startsWith(`${folder}/`)) ?? ''
}

/** Why an import is against the design's table; undefined where it is not. */
export function violation({ from, to, types }: Import): string | undefined {
  if (!to.endsWith('.ts')) {
    if (to.startsWith('node:') || types) return undefined
    const allowed = PACKAGES[from] ?? PACKAGES[folderOf(from)] ?? []
    return allowed.includes(to) ? undefined : `${from} may not use ${to}`
  }
  const [own, other] = [folderOf(from), folderOf(to)]
  if (TESTING.test(from)) return other.startsWith('adapters') ? `${from} may not know an adapter: ${to}` : undefined
  if (TESTING.test(to)) return `${from} may not lean on what is there for tests: ${to}`
  if (own === '') {
    if (COMPOSITION.includes(from)) return other.startsWith('adapters') ? `${from} may not know an adapter: ${to}` : undefined
    if (other !== '') return `${from} is a root file and may not import ${to}`
    return COMPOSITION.includes(to) && !types ? `${from} may not import upward: ${to}` : undefined
  }
  if (other === '') return COMPOSITION.includes(to) ? `${from} may not import upward: ${to}` : undefined
  return own === other ? undefined : `${from} and ${to} are in sibling folders`
}

/** A circle of imports that exist at run time; undefined where there is none. */
export function circle(imports: readonly Import[]): readonly string[] | undefined {
  const edges = Map.groupBy(
    imports.filter((one) => one.to.endsWith('.ts') && !one.types),
    (one) => one.from,
  )
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): readonly string[] | undefined => {
    if (path.includes(file)) return [...path, file]
    if (done.has(file)) return undefined
    for (const { to } of edges.get(file) ?? []) {
      const found = visit(to, [...path, file])
      if (found) return found
    }
    done.add(file)
    return undefined
  }
  for (const file of edges.keys()) {
    const found = visit(file, [])
    if (found) return found
  }
  return undefined
}

function importsOf(file: string): Import[] {
  return importsIn(file, readFileSync(join(SRC, file), 'utf8'))
}

/** Statements, and what stands anywhere else as `import('…')`. */
function importsIn(file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest)
  const statements = source.statements.flatMap((statement) => {
    if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) return []
    if (!statement.moduleSpecifier || !ts.isStringLiteral(statement.moduleSpecifier)) return []
    return [{ named: statement.moduleSpecifier.text, types: onlyTypes(statement) }]
  })
  const elsewhere = ts
    .preProcessFile(text)
    .importedFiles.map((one) => ({ named: one.fileName, types: false }))
    .filter(({ named }) => !statements.some((statement) => statement.named === named))
  return [...statements, ...elsewhere].map(({ named, types }) => {
    const to = named.startsWith('.') ? relative(SRC, resolve(SRC, dirname(file), named)) : named
    return { from: file, to, types }
  })
}

function onlyTypes(statement: ts.ImportDeclaration | ts.ExportDeclaration): boolean {
  if (ts.isExportDeclaration(statement)) return statement.isTypeOnly
  const clause = statement.importClause
  if (!clause || clause.isTypeOnly) return clause !== undefined
  const names = clause.namedBindings
  return !clause.name && names !== undefined && ts.isNamedImports(names) && names.elements.every((element) => element.isTypeOnly)
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const imports = files.flatMap(importsOf)

t.test('every import is one that the design allows', async (t) => {
  t.ok(files.length > 20, 'the sources were found')
  t.same(imports.map(violation).filter(Boolean), [])
})

t.test('no imports go round in a circle', async (t) => {
  t.equal(circle(imports), undefined)
})

t.test('files are named in kebab-case', async (t) => {
  t.same(
    files.filter((file) => !/^[a-z0-9]+(-[a-z0-9]+)*\.ts$/.test(basename(file))),
    [],
  )
})

t.test('index.ts holds no logic', async (t) => {
  const source = ts.createSourceFile('index.ts', readFileSync(join(SRC, 'index.ts'), 'utf8'), ts.ScriptTarget.Latest)
  t.ok(source.statements.every(ts.isExportDeclaration))
})

t.test('these rules can be broken', async (t) => {
  const broken: Import[] = [
    { from: 'capture/a.ts', to: 'apply/b.ts', types: false },
    { from: 'transport/a.ts', to: 'capture/b.ts', types: true },
    { from: 'apply/a.ts', to: 'adapters/postgres/b.ts', types: false },
    { from: 'adapters/sqlite/a.ts', to: 'adapters/postgres/b.ts', types: false },
    { from: 'model.ts', to: 'capture/a.ts', types: true },
    { from: 'model.ts', to: 'register.ts', types: false },
    { from: 'central.ts', to: 'adapters/postgres/adapter.ts', types: false },
    { from: 'capture/a.ts', to: 'central.ts', types: false },
    { from: 'transport/http.ts', to: 'msgpackr', types: false },
    { from: 'model.ts', to: 'kysely', types: false },
    { from: 'testing/a.ts', to: 'adapters/sqlite/b.ts', types: false },
    { from: 'central.ts', to: 'testing/b.ts', types: true },
  ]
  for (const one of broken) t.ok(violation(one), `${one.from} → ${one.to}`)
  const hidden = importsIn(
    'capture/a.ts',
    "export const late = () => import('../apply/b.ts')\nexport { c } from 'pg'\nimport type { D } from '../model.ts'",
  )
  t.same(hidden.map(violation).filter(Boolean).length, 2, 'late imports and exports count')
  t.ok(
    circle([
      { from: 'a.ts', to: 'b.ts', types: false },
      { from: 'b.ts', to: 'a.ts', types: false },
    ]),
  )
})
