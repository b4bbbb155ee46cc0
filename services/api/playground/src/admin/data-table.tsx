/**
 * A table that becomes a list of small cards in a narrow window. It states its roles itself, because browsers take them away from a table
 * that is not laid out as one. Knows nothing about its content.
 */
import type { ComponentChildren, VNode } from 'preact'

export interface Column<T> {
  head: string
  cell: (row: T) => ComponentChildren
  /** Whether the cells are numbers, which are aligned on the right. Default: false. */
  numeric?: boolean
}

interface DataTableProps<T> {
  /** The id of the heading that names the table. */
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
