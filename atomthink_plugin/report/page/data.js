// The packed data of this file, unpacked on demand.

const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// The browser may still be reading the file when the first question is shown. Waits for a later element.
const arrived = (id) =>
  new Promise((resolve) => {
    const look = () => {
      const loading = document.readyState === "loading";
      const element = document.getElementById(id);
      if (element && (element.nextElementSibling || !loading)) resolve(element.textContent);
      else if (!loading) resolve(null);
      else setTimeout(look, 20);
    };
    look();
  });

const KEPT = 12;
const kept = new Map();

const piece = async (number) => {
  if (!kept.has(number)) {
    kept.set(number, arrived(`piece-${number}`).then((text) => {
      if (text === null) throw new Error(TORN);
      return unpack(text);
    }));
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(number);
};

const TORN = "the end of this file is missing, because it was not completely copied or written";

const index = await unpack(document.getElementById("index").textContent);

const loadQuestion = async (number) => {
  let [which, place] = [0, number];
  while (place >= index.pieces[which]) {
    place -= index.pieces[which];
    which += 1;
  }
  return (await piece(which))[place];
};

let wordsOfAll = null;

const loadWords = () => {
  wordsOfAll ??= arrived("words").then((text) => (text === null ? null : unpack(text)))
    .then((words) => words?.map((one) => one.toLowerCase()) ?? null).catch(() => null);
  return wordsOfAll;
};

const loadPicture = async (number) => {
  const text = await arrived(`picture-${number}`);
  return text === null ? null : `data:image/webp;base64,${text}`;
};
