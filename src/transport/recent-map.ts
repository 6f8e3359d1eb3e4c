/** A map of bounded size: what was longest not asked for makes room. */
export class RecentMap<K, V> {
  private readonly entries = new Map<K, V>()
  private readonly maxSize: number

  constructor({ maxSize }: { readonly maxSize: number }) {
    this.maxSize = maxSize
  }

  get size(): number {
    return this.entries.size
  }

  get(key: K): V | undefined {
    const value = this.entries.get(key)
    if (value !== undefined) this.set(key, value)
    return value
  }

  set(key: K, value: V): void {
    this.entries.delete(key)
    this.entries.set(key, value)
    if (this.entries.size > this.maxSize) this.entries.delete(this.entries.keys().next().value as K)
  }

  delete(key: K): void {
    this.entries.delete(key)
  }
}
