from transformers import PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING


class EMOVAConfig(PretrainedConfig):
    model_type = "emova"

    def __init__(
        self,
        text_config=None,
        vision_config=None,
        image_token_index=0,
        default_system_prompt="You are a helpful assistant.",
        merge_inside=False,
        **kwargs,
    ):
        text_config = dict(text_config or {})
        self.text_config = CONFIG_MAPPING[text_config.pop("model_type", "qwen2")](**text_config)
        self.vision_config = vision_config
        self.image_token_index = image_token_index
        self.default_system_prompt = default_system_prompt
        self.merge_inside = merge_inside
        super().__init__(**kwargs)
