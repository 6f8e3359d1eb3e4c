import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const EXAMPLE = resolve(import.meta.dirname, '../../examples/host-ledger/host-ledger.ts')

t.test("the example posts into an ERP's own ledger: each difference once, corrections beside what they correct", { timeout: 60_000 }, async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [EXAMPLE])
  const tables = stdout
    .split('\n\n')
    .map((part) =>
      part
        .split('\n')
        .filter((line) => /^│ +\d/.test(line))
        .map((line) =>
          line
            .split('│')
            .map((cell) => cell.trim())
            .filter((_, n) => n > 0 && n < 11)
            .join('|'),
        ),
    )
    .filter((lines) => lines.length > 0)
  const first = [
    '1|Sale|R-1|4006381333931|||-2.000|2.98|false|1',
    '2|Sale|R-1|2100020000000|L-77||-0.300|5.70|false|1',
    '3|Sale|R-2|4006381333931||10000|-1.000|1.49|false|4',
    '4|Sales Return|R-3|4006381333931|||1.000|-1.49|false|6',
  ]
  t.same(tables[0], first)
  t.same(tables[1], first, 'sent again it posts nothing')
  t.same(tables[2], [...first, '5|Sale|R-1|4006381333931|||-1.000|1.49|true|11', '6|Sale|R-2|4006381333931||10000|1.000|-1.49|true|14'])
})
