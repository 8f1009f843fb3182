"""A little text of many kinds, on which the fixtures' tokenizers are trained."""

CORPUS = """
The river runs past the mill and under the old stone bridge. In the morning the water is grey; in the evening it is gold.
She counted the boats: one, two, three, and a fourth that nobody had seen before. "Where does it come from?" they asked.
Nobody knew. It's not that they didn't try to find out, but they'd been told that the harbour wouldn't open until 10:30.
A tokenizer splits a text into pieces. The pieces have numbers. The numbers go into the model, and numbers come out of it.
function add(a, b) { return a + b; }  // 1 + 1 = 2, 12 * 12 = 144, 2024-03-07
if (x < 10 && y >= 3.14) { print("hello, world\\n"); }
    indented = [0, 1, 2, 3]
\tvalue = {"name": "mill", "size": 42, "open": true}
Der Fluß fließt unter der Brücke hindurch, und die Mühle dreht sich. Größe und Maß sind nicht dasselbe.
La rivière coule près du moulin. Où est-elle née ? À l'été, l'eau est plus chaude que l'air du soir.
El niño corre detrás de la cometa; mañana volará más alto. ¿Quién la hizo? ¡Nadie lo sabe!
Река течёт мимо старой мельницы, и вода в ней холодная. Сколько лодок у моста?
川は古い水車のそばを流れています。水は冷たいです。川と水。
河水从老磨坊旁边流过。水很冷。河上有三条船。
강물은 오래된 물레방아 옆을 흐른다. 물이 차다.
النهر يجري قرب الطاحونة القديمة. الماء بارد.
नदी पुरानी चक्की के पास बहती है। पानी ठंडा है।
The answer is yes. The answer is no. The answer is that the question is not the right question to ask of the river.
Water, water, and more water: the mill stands in the water, the bridge stands over the water, the boats float on the water.
😀 😃 🌍 👍 ❤️ 🎉 🎉 🌍
""".strip("\n").split("\n")
