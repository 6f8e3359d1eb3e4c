import { createHash } from 'node:crypto'
import { isIPv6 } from 'node:net'
import type { RegisterName } from '../model.ts'

/** Where a request comes from, as the host knows it. */
export interface RequestSource {
  /** The client's address, as the host's own proxy sets it, or any other name for it. Without it a lock-out goes by the token. */
  readonly source?: string | undefined
}

/**
 * Says who asks, where the exchange begins and ends in this process, as that of a `memoryLink` does: no token is shown. Nothing that comes over a
 * wire can be one, nor what a framework passes beside a request.
 */
export class Voucher implements RequestSource {
  readonly source = undefined
  readonly register: RegisterName

  constructor({ location, register }: RegisterName) {
    this.register = { location, register }
  }
}

/** By what a source is counted: of one length, whatever the host passes on. */
export function sourceKey(source: string): string {
  return createHash('sha256').update(networkOf(source)).digest('base64')
}

const MAPPED = '0:0:0:0:0:ffff'

/** An IPv6 address stands for its /64, which is one customer's (RFC 6177); an IPv4 address that is mapped into IPv6 for itself. */
export function networkOf(source: string): string {
  if (!isIPv6(source)) return source
  const groups = groupsOf(source)
  if (groups.slice(0, 6).join(':') !== MAPPED) return `${groups.slice(0, 4).join(':')}::/64`
  const bytes = groups.slice(6).map((group) => Number.parseInt(group, 16))
  return bytes.flatMap((two) => [two >> 8, two & 255]).join('.')
}

/** The eight of them, as `URL` writes them: lower case, no leading zeros. */
function groupsOf(address: string): string[] {
  const { hostname } = new URL(`http://[${address.replace(/%.*$/, '')}]`)
  const [head = [], tail = []] = hostname
    .slice(1, -1)
    .split('::')
    .map((half) => (half === '' ? [] : half.split(':')))
  return [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail]
}
