// Wide tables: as many whole columns as there is room for, none cut; scrolling sideways stops at columns.

function fitTable(scroll) {
  const table = find("table.figures", scroll);
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  for (const element of [table, ...heads]) element.style.width = "";
  table.style.tableLayout = "";
  scroll.classList.remove("snaps");
  const [first, ...others] = heads.map((head) => Math.ceil(head.getBoundingClientRect().width));
  const room = scroll.clientWidth - first;
  const shown = Math.max(1, Math.floor(room / Math.max(...others)));
  const cut = table.getBoundingClientRect().width > scroll.clientWidth + 1;
  let note = scroll.nextElementSibling;
  if (!note?.classList.contains("more")) {
    note = make("p", { className: "note more" });
    scroll.after(note);
  }
  note.hidden = !cut || shown >= others.length;
  if (note.hidden) return;
  note.textContent = `${shown} of ${others.length} columns; scroll sideways for the others.`;
  table.style.tableLayout = "fixed";
  for (let again = 0; again < 2; again++) { // higher rows may bring a scroll bar, which takes room
    const width = (scroll.clientWidth - first) / shown;
    table.style.width = `${first + width * others.length}px`;
    heads.forEach((head, n) => (head.style.width = `${n ? width : first}px`));
  }
  scroll.style.scrollPaddingLeft = `${first}px`;
  scroll.classList.add("snaps");
}

const fitTables = () => document.querySelectorAll(".scroll").forEach(fitTable);
addEventListener("resize", fitTables);
