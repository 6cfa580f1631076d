"""The column layouts of public datasets, with made-up values: name, kind, columns.

A column is `name=value`, where the value is one of VALUES (a document where it is left out).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

PROSE = "It was a bright cold day in April, and the clocks were striking thirteen; nobody took any notice of it. " * 3
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR" + b"\x00\x00\x00\x08" * 2 + b"\x00" * 8
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00" + b"\x00" * 16
MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x00" * 32
CODE = "def add(a, b):\n    return (a + b);\n"


def said(role: str, content: str, user: str, assistant: str) -> list[dict[str, str]]:
    return [
        {role: user, content: "What is the way home from here?"},
        {role: assistant, content: "Over the bridge."},
    ]


OPENAI = said("role", "content", "user", "assistant")
VALUES: dict[str, Any] = {
    "doc": lambda i: f"{i} {PROSE}",
    "ask": lambda i: f"What is the sum of {i} and {i + 1} in base ten?",
    "say": lambda i: f"The sum of both of them is {2 * i + 1}.",
    "word": lambda i: f"w{i % 3}",
    "cat": lambda i: ("World", "Sports", "Business")[i % 3],
    "id": lambda i: f"<urn:uuid:{i:08x}>",
    "int": lambda i: i,
    "class": lambda i: i % 3,
    "letter": lambda i: "ABCD"[i % 4],
    "one": lambda i: str(i % 2 + 1),
    "float": lambda i: i / 7,
    "bool": lambda i: i % 2 == 0,
    "url": lambda i: f"https://example.org/page/{i}",
    "imgurl": lambda i: f"https://example.org/{i}.jpg",
    "imgpath": lambda i: f"train/{i:012d}.jpg",
    "mp3path": lambda i: f"common_voice_en_{i}.mp3",
    "date": lambda i: f"2013-05-18T05:48:{i % 60:02d}Z",
    "en": lambda i: "en",
    "lic": lambda i: "MIT",
    "path": lambda i: f"src/lib/file{i}.py",
    "code": lambda i: f"x = {i}\n{CODE}",
    "msgs": lambda i: OPENAI,
    "sg": lambda i: said("from", "value", "human", "gpt"),
    "pairs": lambda i: [{"user": "What is this?", "assistant": "A cat.", "source": "x"}],
    "texts": lambda i: ["What is the way home?", "Over the bridge and to the left."],
    "answers": lambda i: {"text": ["April"], "answer_start": [29]},
    "names": lambda i: ["first one", "second one", "third one", "fourth one"],
    "choices": lambda i: {"text": ["one", "two"], "label": ["A", "B"]},
    "tokens": lambda i: ["A", "cat", "sat"],
    "tags": lambda i: [0, 1, 2],
    "ids": lambda i: [5, 17, 1093],
    "meta": lambda i: {"redpajama_set_name": "C4", "n": i},
    "image": lambda i: {"bytes": PNG, "path": None},
    "png": lambda i: PNG,
    "wav": lambda i: WAV,
    "mp4": lambda i: MP4,
    "audio": lambda i: {"bytes": WAV, "path": f"{i}.wav"},
    "images": lambda i: [{"bytes": PNG, "path": None}],
    "imgurls": lambda i: ["https://example.org/a.jpg", None],
    "parts": lambda i: [None, PROSE],
    "trans": lambda i: {"en": f"The house number {i} is red.", "fr": f"La maison numero {i} est rouge."},
    "responses": lambda i: [{"response": "The sum of both is three.", "model": "m"}],
    "transcript": lambda i: "\n\nHuman: Where is it?\n\nAssistant: There.",
    "regions": lambda i: [{"phrase": "a red car", "x": 1}],
    "json": lambda i: {"text": "hello there, all of you", "language": "en", "speaker": "s1"},
}

LAYOUTS = """
fineweb | text | text id=id dump=word url=url date=date file_path=path language=en language_score=float token_count=int
fineweb-edu | text | text id=id dump=word url=url language_score=float token_count=int score=float int_score=class
fineweb-2 | text | text id=id url=url language=en language_script=word
finepdfs | text | text id=id language=en
dclm-baseline | text | text url=url metadata=meta language_id_whole_page_fasttext=meta
c4 | text | text url=url timestamp=date
dolma | text | text id=id source=word added=date created=date metadata=meta
dolma3-mix | text | text id=id source=word created=date added=date metadata=meta attributes=meta doc=meta version=word
redpajama-v2 | text | raw_content url=url date_download=date
slimpajama | text | text meta=meta
refinedweb | text | content url=url timestamp=date
nemotron-cc | text | text url=url warc_record_id=id
zyda-2 | text | text nemo_id=id
essential-web | text | text id=id metadata=meta eai_taxonomy=meta quality_signals=meta
ultra-fineweb | text | content score=float source=word
culturax | text | text url=url timestamp=date source=word
hplt-2 | text | text id=id u=url
cc100 | text | text=ask
glotcc | text | content
openwebtext | text | text
cci3-hq | text | text id=id score=float
chinese-fineweb-edu | text | text score=float source=word
wikipedia | text | text id=id url=url title=word
wikitext | text | text=say
wikitext-docs | text | page
comma | text | text id=id source=word metadata=meta
common-corpus | text | text identifier=id collection=word open_type=word license=lic language=en date=word
pg19 | text | text url=url short_book_title=word publication_date=int
pile-of-law | text | text url=url created_timestamp=date
edgar-corpus | text | filename=word cik=word year=int section_1 section_1A section_2 section_15
opus-100 | text | translation=trans
the-stack | text | content=code lang=word max_stars_repo_path=path max_stars_repo_name=word ext=word
starcoderdata | text | content=code id=id max_stars_repo_path=path max_stars_repo_name=word max_stars_count=int
starcoder-issues | text | content id=id
commitpackft | text | old_contents=code new_contents=code subject=ask message=ask lang=word license=lic repos=word
github-code-clean | text | code=code repo_name=word path=path language=word license=lic size=int
stack-edu | tabular | blob_id=id repo_name=word path=path score=float int_score=class
magicoder-oss | chat | lang=word problem=ask solution=say
codefeedback | chat | query=ask answer=say resource=word lang=word
opc-sft | chat | instruction=ask output=say
text-to-sql | chat | sql_prompt=ask sql_context=say sql=say
open-web-math | text | text url=url date=date metadata=word
finemath | text | text url=url score=float int_score=class token_count=int
numinamath-cot | chat | source=word problem=ask solution=say messages=msgs
metamathqa | chat | type=word query=ask original_question=ask response=say
mathinstruct | chat | source=word instruction=ask output=say
orca-math | chat | question=ask answer=say
openmathreasoning | chat | problem=ask generated_solution=say expected_answer=word problem_source=word
openr1-math | chat | problem=ask solution=say answer=word messages=msgs
natural-reasoning | chat | question=ask reference_answer=say responses=responses
cosmopedia | text | prompt=ask text token_length=int audience=word format=word seed_data=word
tinystories | text | text
dolly-15k | chat | instruction=ask context=say response=say category=cat
alpaca | chat | instruction=ask input=word output=say text
oasst1 | chat | message_id=id parent_id=id text=say role=word lang=en rank=int message_tree_id=id
ultrachat-200k | chat | prompt=ask prompt_id=id messages=msgs
openhermes | chat | conversations=sg source=word
openorca | chat | id=id system_prompt=say question=ask response=say
tulu-3-sft | chat | id=id messages=msgs source=word
wildchat | chat | conversation_hash=id conversation=msgs language=word toxic=bool timestamp=date
lmsys-chat | chat | conversation_id=id model=word conversation=msgs language=word redacted=bool
lima | chat | conversations=texts source=word
no-robots | chat | prompt=ask prompt_id=id messages=msgs category=cat
aya | chat | inputs=ask targets=say language=word language_code=word
flan-v2 | chat | inputs=ask targets=say task=word
natural-instructions | chat | task_name=word id=id definition=say inputs=ask targets=say
openthoughts3 | chat | difficulty=int source=word domain=word conversations=sg
nemotron-post | chat | uuid=id license=lic generator=word category=cat reasoning=word messages=msgs
magpie | chat | uuid=id conversations=sg
xlam | chat | id=int query=ask tools=say answers=say
toolace | chat | system=say conversations=sg
toucan | chat | messages=msgs tools=say
hh-rlhf | preference | chosen=transcript rejected=transcript
ultrafeedback-binarized | preference | prompt=ask chosen=msgs rejected=msgs score_chosen=float score_rejected=float
ultrafeedback | chat | source=word instruction=ask completions=responses
helpsteer2 | chat | prompt=ask response=say helpfulness=class correctness=class coherence=class verbosity=class
helpsteer3 | preference | context=msgs response1=say response2=say overall_preference=int
orca-dpo | preference | system=say question=ask chosen=say rejected=say
shp | preference | history=ask human_ref_A=say human_ref_B=say labels=class score_A=int score_B=int
pku-saferlhf | preference | prompt=ask response_0=say response_1=say better_response_id=class is_response_0_safe=bool
tulu-3-pref | preference | id=id source=word prompt=ask chosen=msgs rejected=msgs
rlaif-v | preference | image=image question=ask chosen=say rejected=say
kto-mix | preference | prompt=ask completion=say label=bool
kto-messages | preference | messages=msgs label=bool
imagenet-1k | image | image=image label=class
cifar10 | image | img=image label=class
food101 | image | image=image label=class
coco | image | image=image captions=names image_id=int
visual-genome | image | image=image regions=regions
cc3m | image | __key__=word jpg=png txt=say
coyo-700m | image | id=int url=imgurl text=say clip_similarity_vitb32=float nsfw_score_opennsfw2=float
datacomp | image | uid=id url=url text=say clip_b32_similarity_score=float
recap-datacomp | image | url=url re_caption=say org_caption=say
re-laion | image | url=url caption=say similarity=float punsafe=float key=int
pd12m | image | id=id url=imgurl caption=say license=lic
commoncatalog | image | jpg=png blip2_caption=say licenseurl=url
pixmo-cap | image | image_url=imgurl caption=say transcripts=names
docci | image | image=image description=say
obelics | image | images=imgurls texts=parts metadata=word
mint-1t | image | texts=parts images=imgurls
websight | image | image=image text llm_generated_idea=say
the-cauldron | chat | images=images texts=pairs
finevision | chat | images=images texts=pairs relevance_ratings=tags
llava-instruct | chat | id=id image=imgpath conversations=sg
vqa | qa | image=image question=ask answer=word
librispeech | audio | file=path audio=audio text=say speaker_id=int chapter_id=int id=id
voxpopuli | audio | audio_id=id language=int audio=audio raw_text=say normalized_text=say speaker_id=id
fleurs | audio | id=int audio=audio transcription=say raw_transcription=say lang_id=int
peoples-speech | audio | id=id audio=audio duration_ms=int text=say
common-voice | audio | client_id=id path=mp3path sentence=say up_votes=int down_votes=int age=word locale=en
emilia | audio | __key__=word mp3=wav json=json
audioset | audio | video_id=id audio=audio labels=names human_labels=names
esc-50 | audio | audio=audio category=cat target=int fold=int
speech-commands | audio | file=word audio=audio label=class speaker_id=id
ljspeech | audio | id=id audio=audio file=path text=say normalized_text=say
mtg-jamendo | audio | audio=audio genres=names instruments=names moods=names
finevideo | video | mp4=mp4 json=json
openvid-1m | video | video=mp4 caption=say aesthetic_score=float motion_score=float
gsm8k | chat | question=ask answer=say
mmlu | qa | question=ask subject=word choices=names answer=class
mmlu-pro | qa | question_id=int question=ask options=names answer=letter answer_index=class category=cat
hellaswag | qa | ind=int activity_label=word ctx_a=say ctx_b=word ctx=say endings=names label=one
arc | qa | id=id question=ask choices=choices answerKey=letter
piqa | qa | goal=ask sol1=say sol2=say label=class
winogrande | qa | sentence=ask option1=word option2=word answer=one
truthfulqa | qa | type=word category=cat question=ask best_answer=say correct_answers=names incorrect_answers=names
humaneval | text | task_id=word prompt=code canonical_solution=code test=code entry_point=word
mbpp | text | task_id=int text=ask code=code test_list=names test_setup_code=word challenge_test_list=names
math | chat | problem=ask level=word type=word solution=say
bbh | chat | input=ask target=word
lambada | text | text domain=word
boolq | qa | question=ask answer=bool passage
squad | qa | id=id title=word context question=ask answers=answers
trivia-qa | qa | question=ask question_id=id answer=meta
nq-open | qa | question=ask answer=names
openbookqa | qa | id=id question_stem=ask choices=choices answerKey=letter
commonsense-qa | qa | id=id question=ask question_concept=word choices=choices answerKey=letter
drop | qa | section_id=id query_id=id passage question=ask answers_spans=answers
gpqa | qa | Question=ask Correct_Answer=say Incorrect_Answer_1=ask Incorrect_Answer_2=ask Incorrect_Answer_3=ask
ifeval | chat | key=int prompt=ask instruction_id_list=names
medmcqa | qa | id=id question=ask opa=word opb=word opc=word opd=word cop=class choice_type=word exp=say
imdb | classification | text label=class
ag-news | classification | text label=class
yelp | classification | label=class text
tweets | classification | tweet=say sentiment=cat
snli | classification | premise=ask hypothesis=say label=class
sst2 | classification | idx=int sentence=say label=class
mrpc | classification | sentence1=ask sentence2=say label=class idx=int
qqp | classification | question1=ask question2=ask label=class
stsb | classification | sentence1=ask sentence2=say score=float
conll | annotation | id=id tokens=tokens pos_tags=tags chunk_tags=tags ner_tags=tags
cnn-dailymail | chat | article highlights=say id=id
xsum | chat | document summary=say id=id
samsum | chat | id=id dialogue summary=say
gooaq | qa | query=ask positive=say negative=ask
iris | tabular | sepal_length=float sepal_width=float petal_length=float petal_width=float species=word
titanic | tabular | PassengerId=int Survived=class Name=word Sex=word Age=float Fare=float Cabin=word
"""


def layouts() -> list[tuple[str, str, list[tuple[str, str]]]]:
    made = []
    for line in LAYOUTS.strip().splitlines():
        name, kind, spec = (part.strip() for part in line.split("|"))
        cells = [cell.partition("=") for cell in spec.split()]
        made.append((name, kind, [(column, value or "doc") for column, _, value in cells]))
    return made


def batch_of(columns: list[tuple[str, str]], rows: int = 12) -> pa.RecordBatch:
    arrays = [pa.array([VALUES[value](i) for i in range(rows)]) for _, value in columns]
    return pa.RecordBatch.from_arrays(arrays, [name for name, _ in columns])
