from transformers import BatchFeature, ProcessorMixin


class UrsaProcessor(ProcessorMixin):
    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, text=None, images=None, padding=False, truncation=None, max_length=None, return_tensors=None):
        shown = {}
        if images is not None:
            wide = [image.size for image in images]  # as its own image processor asks
            assert len(wide) == 1
            shown = {"pixel_values": self.image_processor(images, return_tensors=return_tensors)["pixel_values"]}
        words = self.tokenizer(
            text, return_tensors=return_tensors, padding=padding, truncation=truncation, max_length=max_length
        )
        return BatchFeature(data={**words, **shown})
