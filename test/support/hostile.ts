import { isDeepStrictEqual } from 'node:util'
import { gzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import type { Batch, RegisterName } from '../../src/model.ts'
import { batchToWire } from '../../src/transport/batch-wire.ts'
import type { Random } from './random.ts'
import { EPOCH, frame, framesOf, type Wire } from './wire.ts'

const packr = new Packr({ useRecords: false, variableMapSize: true })

/** What a hostile sender may begin with: messages that are right as they are. */
export interface Originals {
  readonly from: RegisterName
  /** One that central has taken already. */
  readonly taken: Batch
  /** The one that would follow. */
  readonly next: Batch
}

/** Columns of a batch that its digest covers: a change of any of them must not pass. */
const COVERED = ['after', 'through', 'tables', 'documents', 'sealed', 'table', 'remove', 'baseline', 'recordId', 'record']

/** One request as a hostile sender makes it: never one that central has to take. */
export function hostileBody(random: Random, originals: Originals): Uint8Array {
  const make = random.pick([
    noise,
    spoiltBytes,
    spoiltBytes,
    spoiltMessage,
    spoiltMessage,
    spoiltMessage,
    spoiltBatch,
    spoiltBatch,
    spoiltFrame,
    spoiltFrame,
    deep,
    lying,
    bomb,
  ])
  return make(random, originals)
}

function messageOf({ from }: Originals, batch: Batch | undefined): Wire {
  const { location, register } = from
  return { v: 1, from: { location, register }, id: 'hostile', publish: { epoch: EPOCH, head: 9 }, ...(batch && { batch: frame(batchToWire(batch)) }) }
}

function noise(random: Random): Uint8Array {
  return random.bytes(random.int(0, 300))
}

/** Flipped, cut, doubled, with foreign bytes in between; of a message that says nothing new. */
function spoiltBytes(random: Random, originals: Originals): Uint8Array {
  const whole = frame(messageOf(originals, random.chance(0.5) ? originals.taken : undefined))
  const bytes = random.chance(0.3) ? Buffer.concat([Buffer.of(2), gzipSync(whole.subarray(1), { level: 1 })]) : Buffer.from(whole)
  switch (random.int(0, 3)) {
    case 0: {
      for (let n = random.int(1, 8); n > 0; n--) {
        const at = random.int(0, bytes.length - 1)
        bytes[at] = (bytes[at] as number) ^ (1 << random.int(0, 7))
      }
      return bytes
    }
    case 1:
      return bytes.subarray(0, random.int(0, bytes.length - 1))
    case 2:
      return Buffer.concat([bytes, bytes])
    default: {
      const at = random.int(0, bytes.length)
      return Buffer.concat([bytes.subarray(0, at), random.bytes(random.int(1, 20)), bytes.subarray(at)])
    }
  }
}

/** A value of another kind, size or meaning in some place. What central has taken already, or would be nothing new. */
function spoiltMessage(random: Random, originals: Originals): Uint8Array {
  const wire = messageOf(originals, random.chance(0.5) ? originals.taken : undefined)
  wire.publish = {
    ...wire.publish,
    ...(random.chance(0.3) && { seek: [random.int(0, 9), random.int(0, 99)] }),
    ...(random.chance(0.2) && { parent: aPoint(random) }),
  }
  if (random.chance(0.3)) wire.subscribe = { standing: [EPOCH, 3, random.bytes(32)], points: [aPoint(random)], again: [['receipts', '[1]']] }
  spoil(random, wire)
  return packed(wire)
}

/** A point that is in nobody's history. */
function aPoint(random: Random): readonly unknown[] {
  return [random.int(1, 99), random.bytes(32)]
}

function spoiltBatch(random: Random, originals: Originals): Uint8Array {
  const batch = structuredClone(batchToWire(originals.next)) as Wire
  const column = random.pick(COVERED)
  const before = structuredClone(batch[column])
  spoil(random, batch, column)
  if (isDeepStrictEqual(batch[column], before)) delete batch[column]
  return frame({ ...messageOf(originals, undefined), batch: packed(batch) })
}

/** A part of a large document: the first, spoilt in some place, or the last, whose entries are others than it says. */
function spoiltFrame(random: Random, originals: Originals): Uint8Array {
  const frames = framesOf(6, 20, 7, originals.taken.through)
  const isFirst = random.chance(0.7)
  const batch = structuredClone(batchToWire((isFirst ? frames[0] : frames.at(-1)) as Batch)) as Wire
  if (isFirst) spoil(random, batch, random.pick([...COVERED, 'frame', 'frame', 'frame', 'shapes', 'identities']))
  else batch.record[0] = batch.record[0].replace('"quantity":"1"', `"quantity":"${random.int(2, 99)}"`)
  return frame({ ...messageOf(originals, undefined), batch: packed(batch) })
}

function packed(wire: unknown): Uint8Array {
  try {
    return frame(wire)
  } catch {
    return Buffer.concat([Buffer.of(1), packr.pack(String(wire))])
  }
}

const deepArray = (depth: number): unknown => {
  let value: unknown = []
  for (let n = 0; n < depth; n++) value = [value]
  return value
}

function odd(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => Number.NaN,
    () => Number.POSITIVE_INFINITY,
    () => -1,
    () => 1.5,
    () => 2 ** 53,
    () => 2n ** 63n,
    () => -(2n ** 62n),
    () => '',
    () => 'constructor',
    () => '__proto__',
    () => 'x'.repeat(random.int(1, 5_000)),
    () => '\u0000\ud800',
    () => "'; DROP TABLE sync_archive; --",
    () => [],
    () => ({}),
    () => ({ length: 3, 0: 'x' }),
    () => JSON.parse('{"__proto__": {"polluted": true}, "toString": 1}'),
    () => random.bytes(random.int(0, 64)),
    () => deepArray(random.int(1, 40)),
    () => Array(random.int(1, 2_000)).fill(null),
    () => new Date(0),
    () => true,
    () => false,
  ])()
}

/** Puts something odd in a random place, or takes one away, or gives one a name that means something in JavaScript. */
function spoil(random: Random, wire: Wire, at?: string): void {
  let holder = wire
  let key = at ?? random.pick(Object.keys(holder))
  while (
    typeof holder[key] === 'object' &&
    holder[key] !== null &&
    !(holder[key] instanceof Uint8Array) &&
    Object.keys(holder[key]).length > 0 &&
    random.chance(0.7)
  ) {
    holder = holder[key]
    key = random.pick(Object.keys(holder))
  }
  switch (random.int(0, 5)) {
    case 0:
      if (Array.isArray(holder)) holder.pop()
      else delete holder[key]
      return
    case 1:
      if (Array.isArray(holder)) holder.push(odd(random))
      else
        Object.defineProperty(holder, random.pick(['__proto__', 'constructor', 'then', 'length', 'toJSON', 'x']), {
          value: odd(random),
          enumerable: true,
        })
      return
    default:
      holder[key] = odd(random)
  }
}

function deep(random: Random): Uint8Array {
  return Buffer.concat([Buffer.of(1), Buffer.alloc(random.int(100, 100_000), random.pick([0x91, 0x81, 0xdc]))])
}

/** Lengths that promise what never comes. */
function lying(random: Random): Uint8Array {
  const head = random.pick([[0xdd], [0xdf], [0xc6], [0xdb], [0xc9]])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(random.pick([0xffffffff, 0x7fffffff, 0x00ffffff]))
  return Buffer.concat([Buffer.of(1), Buffer.from(random.chance(0.5) ? [0x81, 0xa1, 0x76] : []), Buffer.from(head), length, random.bytes(20)])
}

const BOMB = gzipSync(Buffer.alloc(80_000_000), { level: 9 })

function bomb(random: Random, originals: Originals): Uint8Array {
  // Each costs as much as the limit lets it: few are enough.
  if (!random.chance(0.02)) return spoiltBytes(random, originals)
  const body = Buffer.concat([Buffer.of(2), BOMB])
  return random.chance(0.5) ? body : frame({ ...messageOf(originals, undefined), batch: body })
}
