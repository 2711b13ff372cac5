import torch
from transformers import BatchFeature, ProcessorMixin

SIDE = 4


class EMOVAProcessor(ProcessorMixin):
    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, merge_inside=False, chat_template=None):
        self.merge_inside = merge_inside
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, text, images=None, audios=None, return_tensors=None, **kwargs):
        if not isinstance(text[0], dict) or kwargs:
            raise TypeError("one conversation, as a list of turns")
        prompt = self.apply_chat_template(text, add_generation_prompt=True, tokenize=False)
        pictures = [] if images is None else images if isinstance(images, list) else [images]
        if prompt.count("<image>") != len(pictures):
            raise ValueError(f"{prompt.count('<image>')} places for {len(pictures)} images")
        grids = [self.grid(picture) for picture in pictures]
        pieces = prompt.split("<image>")
        for at, (rows, columns) in enumerate(grids):
            pieces[at] += "<image>" * (1 if self.merge_inside else rows * columns)
        inputs = dict(self.tokenizer("".join(pieces), add_special_tokens=False, return_tensors=return_tensors))
        if pictures:
            inputs["pixel_values"] = self.image_processor(pictures, return_tensors=return_tensors)["pixel_values"]
            inputs["image_sizes"] = torch.tensor(grids)
        return BatchFeature({name: inputs[name] for name in inputs if name != "token_type_ids"})

    @staticmethod
    def grid(picture):
        longest = max(picture.size)
        width, height = (max(1, round(SIDE * side / longest)) for side in picture.size)
        return height, width
