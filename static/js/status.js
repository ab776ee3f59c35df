// After a change: the message is said, for what stands there at the start is not, and reading goes on at the heading.
const said = document.querySelector("main > [role=status]");
const heading = document.querySelector("main h1");

if (heading && said?.children.length) {
  heading.tabIndex = -1;
  heading.focus();
  said.append(...said.children);
}
