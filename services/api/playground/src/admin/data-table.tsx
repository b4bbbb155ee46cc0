/**
 * A table that becomes a list of small cards where the window is narrow. It keeps its roles then, which a browser takes away from a table that
 * is not laid out as one. Knows nothing of what is in it.
 */
import type { ComponentChildren, VNode } from 'preact'

export interface Column<T> {
  head: string
  cell: (row: T) => ComponentChildren
  /** Numbers stand below each other. Default: false. */
  numeric?: boolean
}

interface DataTableProps<T> {
  /** Id of the heading that names it. */
  labelledBy: string
  columns: readonly Column<T>[]
  rows: readonly T[]
  keyOf: (row: T) => string
}

export function DataTable<T>({ labelledBy, columns, rows, keyOf }: DataTableProps<T>): VNode {
  const toClass = ({ numeric = false }: Column<T>): string => (numeric ? 'numeric' : '')
  return (
    <table role="table" aria-labelledby={labelledBy}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.head} role="columnheader" scope="col" class={toClass(column)}>
              {column.head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={keyOf(row)} role="row">
            {columns.map((column) => (
              <td key={column.head} role="cell" class={toClass(column)}>
                <span class="label" aria-hidden="true">
                  {column.head}
                </span>
                <div>{column.cell(row)}</div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  )
}
